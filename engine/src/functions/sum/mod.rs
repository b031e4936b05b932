//! `sum` that is exact or an error: DataFusion's own in everything but how it adds.
//!
//! Totals are kept in 128 bits, in partial states too (`DECIMAL(38, scale)`), so that whether a sum overflows
//! depends on its value alone, never on the order of rows or on how they were spread over workers. Floats,
//! intervals and 256-bit decimals are summed by DataFusion.

mod accumulate;
mod exact;
mod groups;

use std::sync::Arc;

use datafusion::arrow::datatypes::{
    DataType, Decimal32Type, Decimal64Type, Decimal128Type, DurationMicrosecondType,
    DurationMillisecondType, DurationNanosecondType, DurationSecondType, Field, FieldRef,
    Int64Type, TimeUnit, UInt64Type,
};
use datafusion::common::{Result, ScalarValue};
use datafusion::functions_aggregate::sum::Sum;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, Documentation, GroupsAccumulator, ReversedUDAF, SetMonotonicity,
    Signature, StatisticsArgs,
};

use accumulate::{DistinctSum, RunningSum};
use exact::Target;
use groups::GroupSums;

/// The aggregate `sum`.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct ExactSum {
    inner: Sum,
}

/// Returns `$make` with `$kind` standing for arrow's type of `$data_type`, or `$otherwise` if sums of that
/// type are not ours.
macro_rules! with_exact_type {
    ($data_type:expr, $kind:ident => $make:expr, else $otherwise:expr) => {
        match $data_type {
            DataType::Int64 => with_exact_type!(@ $kind = Int64Type, $make),
            DataType::UInt64 => with_exact_type!(@ $kind = UInt64Type, $make),
            DataType::Decimal32(..) => with_exact_type!(@ $kind = Decimal32Type, $make),
            DataType::Decimal64(..) => with_exact_type!(@ $kind = Decimal64Type, $make),
            DataType::Decimal128(..) => with_exact_type!(@ $kind = Decimal128Type, $make),
            DataType::Duration(TimeUnit::Second) => {
                with_exact_type!(@ $kind = DurationSecondType, $make)
            }
            DataType::Duration(TimeUnit::Millisecond) => {
                with_exact_type!(@ $kind = DurationMillisecondType, $make)
            }
            DataType::Duration(TimeUnit::Microsecond) => {
                with_exact_type!(@ $kind = DurationMicrosecondType, $make)
            }
            DataType::Duration(TimeUnit::Nanosecond) => {
                with_exact_type!(@ $kind = DurationNanosecondType, $make)
            }
            _ => $otherwise,
        }
    };
    (@ $kind:ident = $type:ty, $make:expr) => {{
        type $kind = $type;
        $make
    }};
}

impl AggregateUDFImpl for ExactSum {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arg_types)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let target = Target::new(args.return_field.data_type());
        with_exact_type!(args.return_field.data_type(), T => Ok(if args.is_distinct {
            Box::new(DistinctSum::<T>::new(target))
        } else {
            Box::new(RunningSum::<T>::new(target))
        }), else self.inner.accumulator(args))
    }

    /// Returns the fields of a partial sum: one wide total, or the list of distinct values.
    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let ours = with_exact_type!(args.return_type(), _T => true, else false);
        if args.is_distinct || !ours {
            return self.inner.state_fields(args);
        }
        let state_type = Target::new(args.return_type()).state_type();
        Ok(vec![Arc::new(Field::new(format_state_name(args.name, "sum"), state_type, true))])
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.inner.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        let target = Target::new(args.return_field.data_type());
        with_exact_type!(
            args.return_field.data_type(),
            T => Ok(Box::new(GroupSums::<T>::new(target))),
            else self.inner.create_groups_accumulator(args)
        )
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        // Ours can take rows back, distinct or not.
        let ours = with_exact_type!(args.return_field.data_type(), _T => true, else false);
        if ours { self.accumulator(args) } else { self.inner.create_sliding_accumulator(args) }
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.inner.order_sensitivity()
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        self.inner.reverse_expr()
    }

    // `simplify_expr_op_literal` stays at its default: sum(a) + 1 * count(a) may overflow where sum(a + 1)
    // does not.

    fn value_from_stats(&self, statistics_args: &StatisticsArgs) -> Option<ScalarValue> {
        self.inner.value_from_stats(statistics_args)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.inner.set_monotonicity(data_type)
    }
}
