//! Adds in 128 bits and more, over whole batches; says at the end whether the total fits its type.
//!
//! A partial total of groups that leaves 128 bits (decimals of 38 digits only) is an error at once.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::mem::{size_of, size_of_val};
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, Decimal128Array, PrimitiveArray,
};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::datatypes::{
    DataType, Decimal32Type, Decimal64Type, Decimal128Type, DurationMicrosecondType,
    DurationMillisecondType, DurationNanosecondType, DurationSecondType, Int64Type, UInt64Type,
};
use datafusion::common::hash_utils::RandomState;
use datafusion::common::{DataFusionError, HashMap, Result, ScalarValue};
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};
use datafusion::physical_expr::NullState;

use super::arithmetic::numeric_overflow;

/// A type whose values are summed exactly.
pub(super) trait Summable: ArrowPrimitiveType + Debug + Send + Sync {
    fn widen(value: Self::Native) -> i128;
    fn narrow(total: i128) -> Option<Self::Native>;
    /// Adds all values to `total`.
    fn add_all(values: &[Self::Native], total: &mut WideTotal) {
        for value in values {
            total.add(Self::widen(*value));
        }
    }
}

/// Widening and narrowing are the same for all; `$add_all` replaces how a slice is added.
macro_rules! summable {
    ($type:ty $(, $add_all:item)?) => {
        impl Summable for $type {
            fn widen(value: Self::Native) -> i128 {
                i128::from(value)
            }

            fn narrow(total: i128) -> Option<Self::Native> {
                Self::Native::try_from(total).ok()
            }

            $($add_all)?
        }
    };
}

/// For 64-bit values: sums their halves apart, which compiles to vector instructions.
macro_rules! summable_by_halves {
    ($($type:ty),*) => {$(
        summable!($type, fn add_all(values: &[Self::Native], total: &mut WideTotal) {
            for chunk in values.chunks(HALVES_CHUNK) {
                let (mut high, mut low) = (0, 0);
                for value in chunk {
                    high += value >> 32;
                    low += value & 0xffff_ffff;
                }
                total.add((i128::from(high) << 32) + i128::from(low));
            }
        });
    )*};
}

/// Values summed by halves at once: their halves have 32 bits, so the sums have at most 32 + 16.
const HALVES_CHUNK: usize = 1 << 16;

summable!(Decimal32Type);
summable!(Decimal64Type);
summable!(Decimal128Type);
summable_by_halves!(
    Int64Type,
    UInt64Type,
    DurationSecondType,
    DurationMillisecondType,
    DurationMicrosecondType,
    DurationNanosecondType
);

/// An exact total of any number of 128-bit values.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct WideTotal {
    low: i128,
    /// How often `low` wrapped upwards, less how often downwards.
    wraps: i64,
}

impl WideTotal {
    fn add(&mut self, value: i128) {
        let (low, wrapped) = self.low.overflowing_add(value);
        self.low = low;
        if wrapped {
            self.wraps += if value < 0 { -1 } else { 1 };
        }
    }

    fn subtract(&mut self, value: i128) {
        let (low, wrapped) = self.low.overflowing_sub(value);
        self.low = low;
        if wrapped {
            self.wraps += if value < 0 { 1 } else { -1 };
        }
    }

    /// Returns the total if it fits 128 bits.
    fn exact(self) -> Option<i128> {
        (self.wraps == 0).then_some(self.low)
    }
}

/// The type that a sum must fit.
#[derive(Debug, Clone)]
pub(super) struct Target {
    data_type: DataType,
    /// The greatest magnitude of a decimal; other types have the range of their bits.
    magnitude_max: Option<u128>,
}

impl Target {
    /// Returns the target of a type that is [`Summable`].
    pub(super) fn new(data_type: &DataType) -> Self {
        // Only decimals have digits to count.
        let precision = match data_type {
            DataType::Decimal32(precision, _)
            | DataType::Decimal64(precision, _)
            | DataType::Decimal128(precision, _) => Some(*precision),
            _ => None,
        };
        let magnitude_max = precision.map(|digits| 10_u128.pow(digits.into()) - 1);
        Self { data_type: data_type.clone(), magnitude_max }
    }

    pub(super) fn data_type(&self) -> &DataType {
        &self.data_type
    }

    fn fit<T: Summable>(&self, total: i128) -> Result<T::Native> {
        let fits = self.magnitude_max.is_none_or(|max| total.unsigned_abs() <= max);
        T::narrow(total).filter(|_| fits).ok_or_else(|| self.overflow())
    }

    fn scalar<T: Summable>(&self, total: Option<WideTotal>) -> Result<ScalarValue> {
        let value = match total {
            Some(total) => Some(self.fit::<T>(total.exact().ok_or_else(|| self.overflow())?)?),
            None => None,
        };
        ScalarValue::new_primitive::<T>(value, &self.data_type)
    }

    fn overflow(&self) -> DataFusionError {
        numeric_overflow("sum", &self.data_type).into()
    }
}

/// The sum of one group or window frame.
#[derive(Debug)]
pub(super) struct RunningSum<T> {
    total: WideTotal,
    /// Values that are not NULL.
    count: u64,
    target: Target,
    values: PhantomData<T>,
}

impl<T: Summable> RunningSum<T> {
    pub(super) fn new(target: Target) -> Self {
        Self { total: WideTotal::default(), count: 0, target, values: PhantomData }
    }
}

/// Returns the number of values and their total.
fn batch_total<T: Summable>(values: &PrimitiveArray<T>) -> (u64, WideTotal) {
    let mut total = WideTotal::default();
    match values.nulls().filter(|nulls| nulls.null_count() > 0) {
        None => T::add_all(values.values(), &mut total),
        Some(nulls) => {
            for (start, end) in nulls.valid_slices() {
                T::add_all(&values.values()[start..end], &mut total);
            }
        }
    }
    ((values.len() - values.null_count()) as u64, total)
}

impl<T: Summable> Accumulator for RunningSum<T> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let (count, total) = batch_total(values[0].as_primitive::<T>());
        self.count += count;
        self.total.add(total.low);
        self.total.wraps += total.wraps;
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let (count, total) = batch_total(values[0].as_primitive::<T>());
        self.count -= count;
        self.total.subtract(total.low);
        self.total.wraps -= total.wraps;
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let total = (self.count > 0)
            .then(|| self.total.exact().ok_or_else(|| self.target.overflow()))
            .transpose()?;
        Ok(vec![ScalarValue::new_primitive::<Decimal128Type>(total, &self.target.state_type())?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let (count, total) = batch_total(states[0].as_primitive::<Decimal128Type>());
        self.count += count;
        self.total.add(total.low);
        self.total.wraps += total.wraps;
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.target.scalar::<T>((self.count > 0).then_some(self.total))
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}

/// The sum of the distinct values of one group or window frame.
#[derive(Debug)]
pub(super) struct DistinctSum<T> {
    /// How often each value is there.
    counts: HashMap<i128, u64, RandomState>,
    total: WideTotal,
    target: Target,
    values: PhantomData<T>,
}

impl<T: Summable> DistinctSum<T> {
    pub(super) fn new(target: Target) -> Self {
        let counts = HashMap::default();
        Self { counts, total: WideTotal::default(), target, values: PhantomData }
    }

    fn insert(&mut self, value: i128) {
        let count = self.counts.entry(value).or_insert(0);
        *count += 1;
        if *count == 1 {
            self.total.add(value);
        }
    }

    fn remove(&mut self, value: i128) {
        let Some(count) = self.counts.get_mut(&value) else { return };
        *count -= 1;
        if *count == 0 {
            self.counts.remove(&value);
            self.total.subtract(value);
        }
    }
}

impl<T: Summable> Accumulator for DistinctSum<T> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        values[0].as_primitive::<T>().iter().flatten().for_each(|v| self.insert(T::widen(v)));
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        values[0].as_primitive::<T>().iter().flatten().for_each(|v| self.remove(T::widen(v)));
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let mut distinct: Vec<i128> = self.counts.keys().copied().collect();
        distinct.sort_unstable();
        let data_type = self.target.data_type();
        let values = distinct
            .into_iter()
            .map(|value| ScalarValue::new_primitive::<T>(T::narrow(value), data_type))
            .collect::<Result<Vec<_>>>()?;
        Ok(vec![ScalarValue::List(ScalarValue::new_list_nullable(&values, data_type))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for values in states[0].as_list::<i32>().iter().flatten() {
            self.update_batch(&[values])?;
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.target.scalar::<T>((!self.counts.is_empty()).then_some(self.total))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.counts.capacity() * size_of::<(i128, u64)>()
    }
}

/// The sums of all groups of an aggregation.
#[derive(Debug)]
pub(super) struct GroupSums<T> {
    totals: Vec<i128>,
    nulls: NullState,
    target: Target,
    values: PhantomData<T>,
}

impl<T: Summable> GroupSums<T> {
    pub(super) fn new(target: Target) -> Self {
        Self { totals: Vec::new(), nulls: NullState::new(), target, values: PhantomData }
    }

    fn add<S: Summable>(
        &mut self,
        values: &PrimitiveArray<S>,
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
        n_groups: usize,
    ) -> Result<()> {
        self.totals.resize(n_groups, 0);
        let totals = self.totals.as_mut_slice();
        let mut wrapped = false;
        self.nulls.accumulate(group_indices, values, filter, n_groups, |group, value| {
            let total = &mut totals[group];
            let (sum, wraps) = total.overflowing_add(S::widen(value));
            *total = sum;
            wrapped |= wraps;
        });
        if wrapped { Err(self.target.overflow()) } else { Ok(()) }
    }
}

impl<T: Summable> GroupsAccumulator for GroupSums<T> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.add(values[0].as_primitive::<T>(), group_indices, opt_filter, total_num_groups)
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        let states = values[0].as_primitive::<Decimal128Type>();
        self.add(states, group_indices, None, total_num_groups)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let totals = emit_to.take_needed(&mut self.totals);
        let nulls = self.nulls.build(emit_to);
        let sums = totals
            .into_iter()
            .map(|total| self.target.fit::<T>(total))
            .collect::<Result<Vec<_>>>()?;
        let sums = PrimitiveArray::<T>::new(sums.into(), nulls);
        Ok(Arc::new(sums.with_data_type(self.target.data_type().clone())))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let totals = emit_to.take_needed(&mut self.totals);
        let nulls = self.nulls.build(emit_to);
        let states = Decimal128Array::new(totals.into(), nulls);
        Ok(vec![Arc::new(states.with_data_type(self.target.state_type()))])
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let values = values[0].as_primitive::<T>();
        let kept = opt_filter.map(|filter| match filter.nulls() {
            Some(known) => NullBuffer::new(filter.values() & known.inner()),
            None => NullBuffer::new(filter.values().clone()),
        });
        let nulls = NullBuffer::union(values.nulls(), kept.as_ref());
        let totals: Vec<i128> = values.values().iter().map(|value| T::widen(*value)).collect();
        let states = Decimal128Array::new(totals.into(), nulls);
        Ok(vec![Arc::new(states.with_data_type(self.target.state_type()))])
    }

    fn size(&self) -> usize {
        self.totals.capacity() * size_of::<i128>() + self.nulls.size()
    }
}
