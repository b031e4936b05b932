//! The sum of one group or window frame, whole batches at a time; rows can be taken back.

use std::marker::PhantomData;
use std::mem::{size_of, size_of_val};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use datafusion::arrow::datatypes::Decimal128Type;
use datafusion::common::hash_utils::RandomState;
use datafusion::common::{HashMap, Result, ScalarValue};
use datafusion::logical_expr::Accumulator;

use super::exact::{Summable, Target, WideTotal};

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
        self.total.add_total(total);
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let (count, total) = batch_total(values[0].as_primitive::<T>());
        self.count -= count;
        self.total.subtract_total(total);
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
        self.total.add_total(total);
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
