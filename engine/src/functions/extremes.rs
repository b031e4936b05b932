//! `min` and `max` of floats in one order, whatever the order of rows: -NaN, -infinity, ..., -0, 0, ..., infinity, NaN.
//!
//! That is how floats are sorted here, and how DataFusion finds the extreme of all rows. With GROUP BY it compares in another
//! way: a NaN is replaced by whatever comes after it, and a group of nothing but infinity becomes the greatest finite value. Everything
//! else is DataFusion's own.

use std::cmp::Ordering;
use std::fmt::Debug;
use std::hash::Hash;

use datafusion::arrow::datatypes::{
    ArrowPrimitiveType, DataType, FieldRef, Float16Type, Float32Type, Float64Type,
};
use datafusion::common::{Result, ScalarValue};
use datafusion::functions_aggregate::min_max::{Max, Min};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, Documentation, GroupsAccumulator, ReversedUDAF, SetMonotonicity,
    Signature, StatisticsArgs,
};
use datafusion_functions_aggregate_common::aggregate::groups_accumulator::prim_op::PrimitiveGroupsAccumulator;

/// The aggregate `min` or `max`, as DataFusion's `Inner`.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Extreme<Inner> {
    inner: Inner,
}

/// Which of two values is the more extreme.
pub(super) trait End: AggregateUDFImpl + Debug + PartialEq + Eq + Hash {
    /// How a more extreme value compares with a less extreme one.
    const WINS: Ordering;
}

impl End for Min {
    const WINS: Ordering = Ordering::Less;
}

impl End for Max {
    const WINS: Ordering = Ordering::Greater;
}

/// Returns the extremes of groups of floats. Nothing wins over nothing, so groups begin with what loses to everything.
fn groups<F: ArrowPrimitiveType + Send, E: End>(
    data_type: &DataType,
    ends: (F::Native, F::Native),
    compare: fn(&F::Native, &F::Native) -> Ordering,
) -> Box<dyn GroupsAccumulator> {
    let (least, greatest) = ends;
    let first = if E::WINS == Ordering::Less { greatest } else { least };
    let take = move |known: &mut F::Native, next: F::Native| {
        if compare(&next, known) == E::WINS {
            *known = next;
        }
    };
    Box::new(PrimitiveGroupsAccumulator::<F, _>::new(data_type, take).with_starting_value(first))
}

impl<E: End> AggregateUDFImpl for Extreme<E> {
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

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(arg_types)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.inner.accumulator(args)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        self.inner.state_fields(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.inner.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        // The ends of the order are the NaNs with all bits set, of both signs.
        let data_type = args.return_field.data_type();
        match data_type {
            DataType::Float16 => {
                type F16 = <Float16Type as ArrowPrimitiveType>::Native;
                let ends = (F16::from_bits(u16::MAX), F16::from_bits(u16::MAX >> 1));
                Ok(groups::<Float16Type, E>(data_type, ends, F16::total_cmp))
            }
            DataType::Float32 => {
                let ends = (f32::from_bits(u32::MAX), f32::from_bits(u32::MAX >> 1));
                Ok(groups::<Float32Type, E>(data_type, ends, f32::total_cmp))
            }
            DataType::Float64 => {
                let ends = (f64::from_bits(u64::MAX), f64::from_bits(u64::MAX >> 1));
                Ok(groups::<Float64Type, E>(data_type, ends, f64::total_cmp))
            }
            // Other types have one order.
            _ => self.inner.create_groups_accumulator(args),
        }
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.inner.create_sliding_accumulator(args)
    }

    fn is_descending(&self) -> Option<bool> {
        self.inner.is_descending()
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.inner.order_sensitivity()
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        self.inner.reverse_expr()
    }

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
