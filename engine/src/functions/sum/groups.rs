//! The sums of all groups of an aggregation.
//!
//! Sums of 64-bit values are kept in 64 bits, so that they need no more memory than sums that wrap; how often
//! a group's total wrapped is noted apart, which almost never happens.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::mem::{size_of, take};
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, PrimitiveArray,
};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::datatypes::Decimal128Type;
use datafusion::common::Result;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::NullState;

use super::exact::{Lane, Summable, Target};

/// Accumulates the sums of values of type `T`.
#[derive(Debug)]
pub(super) struct GroupSums<T: Summable> {
    totals: Totals<T::Lane>,
    nulls: NullState,
    target: Target,
    values: PhantomData<T>,
}

/// One exact total per group.
#[derive(Debug, Default)]
struct Totals<L> {
    lows: Vec<L>,
    /// What the lows lack, by group, in units of two to the width of a lane.
    carries: BTreeMap<usize, i64>,
}

impl<L: Lane> Totals<L> {
    /// Takes the totals of the groups that `emit_to` names; later groups move up.
    fn take(&mut self, emit_to: EmitTo) -> Self {
        let lows = emit_to.take_needed(&mut self.lows);
        let later = self.carries.split_off(&lows.len());
        let carries = take(&mut self.carries);
        self.carries = later.into_iter().map(|(group, n)| (group - lows.len(), n)).collect();
        Self { lows, carries }
    }

    /// Returns each total, `None` where it does not fit 128 bits.
    fn exact(&self) -> impl Iterator<Item = Option<i128>> {
        self.lows.iter().enumerate().map(|(group, low)| {
            let carry = if self.carries.is_empty() { None } else { self.carries.get(&group) };
            low.exact(carry.copied().unwrap_or(0))
        })
    }
}

#[cold]
#[inline(never)]
fn carry(carries: &mut BTreeMap<usize, i64>, group: usize, units: i64) {
    *carries.entry(group).or_insert(0) += units;
}

impl<T: Summable> GroupSums<T> {
    pub(super) fn new(target: Target) -> Self {
        let totals = Totals { lows: Vec::new(), carries: BTreeMap::new() };
        Self { totals, nulls: NullState::new(), target, values: PhantomData }
    }

    fn add<S: Summable>(
        &mut self,
        values: &PrimitiveArray<S>,
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
        n_groups: usize,
    ) {
        let Totals { lows, carries } = &mut self.totals;
        lows.resize(n_groups, T::Lane::default());
        let lows = lows.as_mut_slice();
        self.nulls.accumulate(group_indices, values, filter, n_groups, |group, value| {
            let (low, units) = T::Lane::split(S::widen(value));
            let total = &mut lows[group];
            let (sum, wrapped) = total.add(low);
            *total = sum;
            if wrapped || units != 0 {
                carry(carries, group, units + i64::from(wrapped) * low.sign());
            }
        });
    }

    fn overflow_if_none<V>(&self, value: Option<V>) -> Result<V> {
        value.ok_or_else(|| self.target.overflow())
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
        self.add(values[0].as_primitive::<T>(), group_indices, opt_filter, total_num_groups);
        Ok(())
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        let states = values[0].as_primitive::<Decimal128Type>();
        self.add(states, group_indices, None, total_num_groups);
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let totals = self.totals.take(emit_to);
        let nulls = self.nulls.build(emit_to);
        let sums = totals
            .exact()
            .map(|total| self.target.fit::<T>(self.overflow_if_none(total)?))
            .collect::<Result<Vec<_>>>()?;
        let sums = PrimitiveArray::<T>::new(sums.into(), nulls);
        Ok(Arc::new(sums.with_data_type(self.target.data_type().clone())))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let totals = self.totals.take(emit_to);
        let nulls = self.nulls.build(emit_to);
        let states =
            totals.exact().map(|total| self.overflow_if_none(total)).collect::<Result<Vec<_>>>()?;
        let states = Decimal128Array::new(states.into(), nulls);
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
        self.totals.lows.capacity() * size_of::<T::Lane>()
            + self.totals.carries.len() * size_of::<(usize, i64)>()
            + self.nulls.size()
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::{DataType, Int64Type, UInt64Type};
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn totals_of_groups_are_exact_by_any_way_through_states() {
        for seed in 0..200 {
            check::<UInt64Type>(&DataType::UInt64, seed, |random| {
                match random.random_range(0..3) {
                    0 => u64::MAX - random.random_range(0..9),
                    1 => random.random(),
                    _ => random.random_range(0..9),
                }
            });
            check::<Int64Type>(&DataType::Int64, seed, |random| match random.random_range(0..4) {
                0 => i64::MAX - random.random_range(0..9),
                1 => i64::MIN + random.random_range(0..9),
                2 => random.random(),
                _ => random.random_range(-9..9),
            });
            let limit = 10_i128.pow(37) * 2;
            check::<Decimal128Type>(&DataType::Decimal128(38, 0), seed, |random| {
                random.random_range(-limit..limit)
            });
        }
    }

    /// Sums random values in two accumulators, merges them into a third and reads it in pieces.
    fn check<T: Summable>(
        data_type: &DataType,
        seed: u64,
        value: impl Fn(&mut StdRng) -> T::Native,
    ) {
        const N_GROUPS: usize = 7;
        let mut random = StdRng::seed_from_u64(seed);
        let new = || GroupSums::<T>::new(Target::new(data_type));
        let mut merged = new();
        let mut expected = [0_i128; N_GROUPS];
        for _ in 0..2 {
            let n_rows: usize = random.random_range(1..5);
            let values: Vec<_> = (0..n_rows).map(|_| value(&mut random)).collect();
            let groups: Vec<usize> =
                (0..n_rows).map(|_| random.random_range(0..N_GROUPS)).collect();
            for (group, value) in groups.iter().zip(&values) {
                expected[*group] += T::widen(*value);
            }
            let values: ArrayRef = Arc::new(
                PrimitiveArray::<T>::from_iter_values(values).with_data_type(data_type.clone()),
            );
            if random.random_bool(0.5) {
                let mut part = new();
                part.update_batch(&[values], &groups, None, N_GROUPS).unwrap();
                let all: Vec<usize> = (0..N_GROUPS).collect();
                let first = part.state(EmitTo::First(3)).unwrap();
                merged.merge_batch(&first, &all[..3], N_GROUPS).unwrap();
                let rest = part.state(EmitTo::All).unwrap();
                merged.merge_batch(&rest, &all[3..], N_GROUPS).unwrap();
            } else {
                let states = new().convert_to_state(&[values], None).unwrap();
                merged.merge_batch(&states, &groups, N_GROUPS).unwrap();
            }
        }
        for (group, exact) in expected.into_iter().enumerate() {
            let given = merged.evaluate(EmitTo::First(1));
            let target = Target::new(data_type);
            match target.fit::<T>(exact) {
                Ok(fits) => assert_eq!(
                    given.unwrap().as_primitive::<T>().value(0),
                    fits,
                    "group {group}, seed {seed}"
                ),
                Err(_) => assert!(given.is_err(), "group {group}, seed {seed}"),
            }
        }
    }
}
