//! Totals that cannot wrap, and the type that a sum must fit in the end.

use std::fmt::Debug;

use datafusion::arrow::array::ArrowPrimitiveType;
use datafusion::arrow::datatypes::{
    DECIMAL128_MAX_PRECISION, DataType, Decimal32Type, Decimal64Type, Decimal128Type,
    DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType, DurationSecondType,
    Int64Type, UInt64Type,
};
use datafusion::common::{DataFusionError, Result, ScalarValue};

use crate::functions::arithmetic::numeric_overflow;

/// A type whose values are summed exactly.
pub(super) trait Summable: ArrowPrimitiveType + Debug + Send + Sync {
    /// What totals of many groups are kept in.
    type Lane: Lane;
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
    ($type:ty, $lane:ty $(, $add_all:item)?) => {
        impl Summable for $type {
            type Lane = $lane;

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
        summable!($type, i64, fn add_all(values: &[Self::Native], total: &mut WideTotal) {
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

summable!(Decimal32Type, i64);
summable!(Decimal64Type, i64);
summable!(Decimal128Type, i128);
summable_by_halves!(
    Int64Type,
    UInt64Type,
    DurationSecondType,
    DurationMillisecondType,
    DurationMicrosecondType,
    DurationNanosecondType
);

/// An integer that holds the low bits of a total; whoever adds keeps count of how often it wrapped.
pub(super) trait Lane: Copy + Default + Debug + Send + Sync + 'static {
    /// Returns the low bits of `value`, and how many times two to the width of the lane they lack.
    fn split(value: i128) -> (Self, i64);
    fn add(self, value: Self) -> (Self, bool);
    /// Returns -1 for negative values, else 1: the direction in which an addition of `self` wraps.
    fn sign(self) -> i64;
    /// Returns the total that has these low bits and `units` on top, if it fits 128 bits.
    fn exact(self, units: i64) -> Option<i128>;
}

impl Lane for i64 {
    #[expect(clippy::cast_possible_truncation, reason = "the rest is the second value")]
    fn split(value: i128) -> (Self, i64) {
        let low = value as i64;
        (low, (value.wrapping_sub(low.into()) >> 64) as i64)
    }

    fn add(self, value: Self) -> (Self, bool) {
        self.overflowing_add(value)
    }

    fn sign(self) -> i64 {
        if self < 0 { -1 } else { 1 }
    }

    fn exact(self, units: i64) -> Option<i128> {
        (i128::from(units) << 64).checked_add(self.into())
    }
}

impl Lane for i128 {
    fn split(value: i128) -> (Self, i64) {
        (value, 0)
    }

    fn add(self, value: Self) -> (Self, bool) {
        self.overflowing_add(value)
    }

    fn sign(self) -> i64 {
        if self < 0 { -1 } else { 1 }
    }

    fn exact(self, units: i64) -> Option<i128> {
        (units == 0).then_some(self)
    }
}

/// An exact total of any number of 128-bit values.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct WideTotal {
    low: i128,
    /// How often `low` wrapped upwards, less how often downwards.
    wraps: i64,
}

impl WideTotal {
    pub(super) fn add(&mut self, value: i128) {
        let (low, wrapped) = Lane::add(self.low, value);
        self.low = low;
        self.wraps += i64::from(wrapped) * value.sign();
    }

    pub(super) fn subtract(&mut self, value: i128) {
        let (low, wrapped) = self.low.overflowing_sub(value);
        self.low = low;
        self.wraps -= i64::from(wrapped) * value.sign();
    }

    pub(super) fn add_total(&mut self, other: Self) {
        self.add(other.low);
        self.wraps += other.wraps;
    }

    pub(super) fn subtract_total(&mut self, other: Self) {
        self.subtract(other.low);
        self.wraps -= other.wraps;
    }

    /// Returns the total if it fits 128 bits.
    pub(super) fn exact(self) -> Option<i128> {
        Lane::exact(self.low, self.wraps)
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

    /// Returns the type of a partial sum.
    pub(super) fn state_type(&self) -> DataType {
        // Types without digits behind the point have scale zero.
        let scale = match &self.data_type {
            DataType::Decimal32(_, scale)
            | DataType::Decimal64(_, scale)
            | DataType::Decimal128(_, scale) => *scale,
            _ => 0,
        };
        DataType::Decimal128(DECIMAL128_MAX_PRECISION, scale)
    }

    pub(super) fn fit<T: Summable>(&self, total: i128) -> Result<T::Native> {
        let fits = self.magnitude_max.is_none_or(|max| total.unsigned_abs() <= max);
        T::narrow(total).filter(|_| fits).ok_or_else(|| self.overflow())
    }

    pub(super) fn scalar<T: Summable>(&self, total: Option<WideTotal>) -> Result<ScalarValue> {
        let value = match total {
            Some(total) => Some(self.fit::<T>(total.exact().ok_or_else(|| self.overflow())?)?),
            None => None,
        };
        ScalarValue::new_primitive::<T>(value, &self.data_type)
    }

    pub(super) fn overflow(&self) -> DataFusionError {
        numeric_overflow("sum", &self.data_type).into()
    }
}
