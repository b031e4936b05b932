//! How the values of one column lie: which fraction of the rows has a value, or one below it.
//!
//! ```text
//! all rows = NULLs + common values, each with its fraction + the rest
//!                                                            └─ between bounds, evenly; else between min and max
//! ```
//! Within each kind of value everything is monotone: a greater value never has fewer rows below it.

use std::cmp::Ordering;

use super::ColumnStatistics;
use crate::remote::Literal;

/// Bytes of a text that tell where between two others it lies.
const TEXT_BYTES: usize = 8;

/// Whether the rows that have the value itself count as below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Edge {
    /// `< value`
    Before,
    /// `<= value`
    After,
}

/// A value as a place on a line; values of different kinds lie on different lines.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place<'a> {
    Number(f64),
    Day(f64),
    Moment(f64),
    Bytes(&'a [u8]),
}

impl<'a> Place<'a> {
    /// Returns where a value lies; `None` for NaN, which lies nowhere.
    pub(super) fn of(value: &'a Literal) -> Option<Self> {
        match value {
            Literal::Bool(v) => Some(Self::Number(f64::from(u8::from(*v)))),
            Literal::Int(v) => Some(Self::Number(*v as f64)),
            Literal::UInt(v) => Some(Self::Number(*v as f64)),
            Literal::Float(bits) => {
                Some(f64::from_bits(*bits)).filter(|v| !v.is_nan()).map(Self::Number)
            }
            Literal::Decimal { unscaled, scale } => {
                let unscaled: f64 = unscaled.parse().ok()?;
                Some(Self::Number(unscaled / 10_f64.powi(i32::from(*scale))))
            }
            Literal::Text(v) => Some(Self::Bytes(v.as_bytes())),
            Literal::Bytes(v) => Some(Self::Bytes(v)),
            Literal::Date(days) => Some(Self::Day(f64::from(*days))),
            Literal::Timestamp { micros, .. } => Some(Self::Moment(*micros as f64)),
        }
    }

    /// Returns the order of two places on one line.
    pub(super) fn compare(&self, other: &Place<'_>) -> Option<Ordering> {
        match (self, other) {
            (Self::Number(a), Place::Number(b))
            | (Self::Day(a), Place::Day(b))
            | (Self::Moment(a), Place::Moment(b)) => a.partial_cmp(b),
            (Self::Bytes(a), Place::Bytes(b)) => Some(a.cmp(b)),
            (Self::Number(_) | Self::Day(_) | Self::Moment(_) | Self::Bytes(_), _) => None,
        }
    }

    /// Returns how far the place lies from `low`, 0, to `high`, 1.
    fn between(&self, low: &Place<'_>, high: &Place<'_>) -> Option<f64> {
        if self.compare(low)? != Ordering::Greater {
            return Some(0.0);
        }
        if self.compare(high)? != Ordering::Less {
            return Some(1.0);
        }
        let (place, low, high) = match (self, low, high) {
            (Self::Bytes(place), Place::Bytes(low), Place::Bytes(high)) => {
                let shared = low.iter().zip(*high).take_while(|(a, b)| a == b).count();
                (number_of(place, shared), number_of(low, shared), number_of(high, shared))
            }
            (
                Self::Number(place) | Self::Day(place) | Self::Moment(place),
                Place::Number(low) | Place::Day(low) | Place::Moment(low),
                Place::Number(high) | Place::Day(high) | Place::Moment(high),
            ) => (*place, *low, *high),
            // Compared above, so they lie on one line.
            (Self::Number(_) | Self::Day(_) | Self::Moment(_) | Self::Bytes(_), _, _) => {
                return None;
            }
        };
        let share = (place - low) / (high - low);
        // Between infinities there is no measure.
        Some(if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.5 })
    }
}

/// Returns a text behind its first `skipped` bytes as a number of the same order.
fn number_of(text: &[u8], skipped: usize) -> f64 {
    let mut bytes = [0; TEXT_BYTES];
    for (byte, of_text) in bytes.iter_mut().zip(text.iter().skip(skipped)) {
        *byte = *of_text;
    }
    u64::from_be_bytes(bytes) as f64
}

/// The fractions of one column, ready to be asked.
#[derive(Debug)]
pub(super) struct Distribution<'a> {
    column: &'a ColumnStatistics,
    /// The fraction of rows that are not NULL.
    pub(super) filled: f64,
    /// The fraction of rows that are neither NULL nor common.
    rest: f64,
    /// How many values the rest has.
    n_rest: Option<f64>,
}

impl<'a> Distribution<'a> {
    pub(super) fn of(column: &'a ColumnStatistics) -> Self {
        let filled = 1.0 - fraction(column.null_fraction.unwrap_or(0.0));
        let common: f64 = column.common.iter().map(|common| fraction(common.fraction)).sum();
        let n_common = column.common.len() as f64;
        Self {
            column,
            filled,
            rest: (filled - common).max(0.0),
            n_rest: column.n_distinct.map(|n_distinct| (n_distinct - n_common).max(1.0)),
        }
    }

    /// Returns the fraction of rows with this value; `None` if nothing tells.
    pub(super) fn equal(&self, value: &Literal) -> Option<f64> {
        let place = Place::of(value);
        let is_it = |other: &Literal| match (&place, Place::of(other)) {
            (Some(place), Some(other)) => place.compare(&other) == Some(Ordering::Equal),
            _ => value == other,
        };
        if let Some(common) = self.column.common.iter().find(|common| is_it(&common.value)) {
            return Some(fraction(common.fraction).min(self.filled));
        }
        let least = self.column.common.iter().map(|common| fraction(common.fraction));
        let least = least.fold(self.filled, f64::min);
        // With none left over, the value is one that the statistics have not seen.
        Some((self.rest / self.n_rest?).min(least))
    }

    /// Returns the fraction of rows with a value below; `None` if nothing tells.
    pub(super) fn below(&self, value: &Literal, edge: Edge) -> Option<f64> {
        let place = Place::of(value)?;
        let mut below = 0.0;
        for common in &self.column.common {
            let counts = match Place::of(&common.value)?.compare(&place)? {
                Ordering::Less => true,
                Ordering::Equal => edge == Edge::After,
                Ordering::Greater => false,
            };
            below += if counts { fraction(common.fraction) } else { 0.0 };
        }
        if self.rest > 0.0 {
            below += self.rest * self.rest_below(&place, edge)?;
        }
        Some(below.min(self.filled))
    }

    /// Returns the fraction of the rest that lies below. The places in between leave room for one value, so that
    /// `< greatest` is not everything and `<= least` not nothing.
    fn rest_below(&self, place: &Place<'_>, edge: Edge) -> Option<f64> {
        let one = self.n_rest.map_or(0.0, |n_rest| 1.0 / n_rest);
        let (least, greatest) = match (self.column.bounds.first(), self.column.bounds.last()) {
            (Some(first), Some(last)) => (&first.value, &last.value),
            _ => (self.column.min.as_ref()?, self.column.max.as_ref()?),
        };
        if place.compare(&Place::of(least)?)? == Ordering::Less {
            return Some(0.0);
        }
        if place.compare(&Place::of(greatest)?)? == Ordering::Greater {
            return Some(1.0);
        }
        let within = match self.column.bounds.is_empty() {
            false => self.between_bounds(place)?,
            true => place.between(&Place::of(least)?, &Place::of(greatest)?)?,
        };
        let itself = if edge == Edge::After { one } else { 0.0 };
        Some(within * (1.0 - one) + itself)
    }

    fn between_bounds(&self, place: &Place<'_>) -> Option<f64> {
        for pair in self.column.bounds.windows(2) {
            let [low, high] = pair else { return None };
            let (from, to) = (Place::of(&low.value)?, Place::of(&high.value)?);
            if place.compare(&to)? != Ordering::Greater {
                let share = place.between(&from, &to)?;
                return Some(low.below + (high.below - low.below) * share);
            }
        }
        Some(1.0)
    }

    /// Returns the fraction of rows whose text begins so; `None` if nothing tells.
    pub(super) fn starts_with(&self, prefix: &str) -> Option<f64> {
        let begins = |value: &Literal| match value {
            Literal::Text(text) => Some(text.starts_with(prefix)),
            // Only text begins with text.
            _ => None,
        };
        let mut fraction_of_common = 0.0;
        for common in &self.column.common {
            let begins = begins(&common.value)?;
            fraction_of_common += if begins { fraction(common.fraction) } else { 0.0 };
        }
        if self.rest == 0.0 {
            return Some(fraction_of_common.min(self.filled));
        }
        let from = Literal::Text(prefix.to_owned());
        let from = self.rest_below(&Place::of(&from)?, Edge::Before)?;
        let to = match following(prefix) {
            Some(following) => self.rest_below(&Place::Bytes(&following), Edge::Before)?,
            None => 1.0,
        };
        Some((fraction_of_common + self.rest * (to - from).max(0.0)).min(self.filled))
    }
}

/// Returns the first text behind all that begin so.
fn following(prefix: &str) -> Option<Vec<u8>> {
    let mut bytes = prefix.as_bytes().to_vec();
    while let Some(last) = bytes.pop() {
        if let Some(next) = last.checked_add(1) {
            bytes.push(next);
            return Some(bytes);
        }
    }
    None
}

/// Sources may say anything; a fraction is between 0 and 1.
pub(super) fn fraction(said: f64) -> f64 {
    if said.is_nan() { 0.0 } else { said.clamp(0.0, 1.0) }
}
