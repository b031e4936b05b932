//! PostgreSQL's binary `numeric`: groups of four decimal digits, most significant first.
//!
//! ```text
//! u16 n groups | i16 weight of the first, in groups | u16 sign | u16 digits shown | n x u16 group
//! ```

use bytes::{BufMut, BytesMut};
use datafusion::arrow::datatypes::{Decimal128Type, Decimal256Type, DecimalType, i256};

use super::values::Unfit;
use crate::relational::TOTAL_DIGITS;

const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xC000;
const INFINITE: u16 = 0xD000;
const MINUS_INFINITE: u16 = 0xF000;
/// The value of a place in front of another.
const GROUP: i128 = 10_000;
const GROUP_DIGITS: i32 = 4;
const HEADER_BYTES: usize = 8;
/// So many groups fit 64 bits.
const SHORT_GROUPS: usize = 4;
const SHORT_GROUP: u64 = 10_000;

/// How many digits a column's type has, and how many of them stand behind the point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Digits {
    pub(super) precision: u8,
    pub(super) scale: i8,
}

/// A value before its scale is applied: `groups` are the digits, the last of them counts `10^exponent`.
struct Parts<'a> {
    groups: &'a [u8],
    is_negative: bool,
    exponent: i32,
}

/// Returns the value times `10^scale`; exact or not at all.
pub(super) fn decimal128(bytes: &[u8], digits: Digits) -> Result<i128, Unfit> {
    let parts = parts(bytes)?;
    let shift = parts.exponent + i32::from(digits.scale);
    let value = match short(parts.groups, shift) {
        Some(value) => i128::from(value?),
        None => long(parts.groups, shift)?,
    };
    let is_bound = digits.precision < TOTAL_DIGITS;
    if is_bound && !Decimal128Type::is_valid_decimal_precision(value, digits.precision) {
        return Err(TOO_LONG);
    }
    Ok(if parts.is_negative { -value } else { value })
}

/// The same of few groups, in 64 bits, if it fits: nearly all numbers do, and long arithmetic is slow.
#[inline]
fn short(groups: &[u8], shift: i32) -> Option<Result<u64, Unfit>> {
    if groups.len() > 2 * SHORT_GROUPS {
        return None;
    }
    let value = groups
        .chunks_exact(2)
        .fold(0, |value: u64, group| value * SHORT_GROUP + u64::from(u16_of(group)));
    // The digits behind the scale are zeros, or the column lied about its type.
    let cut = |n: u64| if value % n == 0 { Ok(value / n) } else { Err(TOO_LONG) };
    Some(match shift {
        _ if value == 0 => Ok(0),
        0 => Ok(value),
        1..=18 => Ok(value.checked_mul(10_u64.pow(shift.unsigned_abs()))?),
        -1 => cut(10),
        -2 => cut(100),
        -3 => cut(1_000),
        _ => return None,
    })
}

fn long(groups: &[u8], shift: i32) -> Result<i128, Unfit> {
    let (mut value, mut groups) = (0i128, groups.chunks_exact(2).peekable());
    while let Some(group) = groups.next() {
        let group = i128::from(u16_of(group));
        if groups.peek().is_some() || shift >= 0 {
            value = times_plus(value, GROUP, group)?;
            continue;
        }
        // As above.
        let (kept, cut) = (GROUP_DIGITS + shift, shift.unsigned_abs());
        if kept <= 0 || group % 10i128.pow(cut) != 0 {
            return Err(TOO_LONG);
        }
        value = times_plus(value, 10i128.pow(kept.unsigned_abs()), group / 10i128.pow(cut))?;
    }
    if shift > 0 && value != 0 {
        let factor = 10i128.checked_pow(shift.unsigned_abs()).ok_or(TOO_LONG)?;
        value = times_plus(value, factor, 0)?;
    }
    Ok(value)
}

/// Returns the value times `10^scale`; by way of its digits, because such numbers are rare.
pub(super) fn decimal256(bytes: &[u8], of_type: Digits) -> Result<i256, Unfit> {
    let parts = parts(bytes)?;
    let mut digits: String =
        parts.groups.chunks_exact(2).map(|group| format!("{:04}", u16_of(group))).collect();
    let shift = parts.exponent + i32::from(of_type.scale);
    for _place in 0..shift.min(i32::from(u8::MAX)) {
        digits.push('0');
    }
    for _place in shift..0 {
        match digits.pop() {
            Some('0') | None => {}
            Some(_lost) => return Err(TOO_LONG),
        }
    }
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return Ok(i256::ZERO);
    }
    let value = i256::from_string(digits).ok_or(TOO_LONG)?;
    if !Decimal256Type::is_valid_decimal_precision(value, of_type.precision) {
        return Err(TOO_LONG);
    }
    Ok(if parts.is_negative { value.wrapping_neg() } else { value })
}

const TOO_LONG: Unfit = Unfit::Unrepresentable("a numeric with more digits than its type declares");

fn parts(bytes: &[u8]) -> Result<Parts<'_>, Unfit> {
    let malformed = Unfit::Malformed("a numeric");
    let (header, groups) = bytes.split_at_checked(HEADER_BYTES).ok_or(malformed)?;
    let [n0, n1, w0, w1, s0, s1, ..] = header else { return Err(malformed) };
    let n_groups = u16::from_be_bytes([*n0, *n1]);
    let weight = i16::from_be_bytes([*w0, *w1]);
    let is_negative = match u16::from_be_bytes([*s0, *s1]) {
        0 => false,
        NEGATIVE => true,
        NAN => return Err(Unfit::Unrepresentable("NaN in a numeric")),
        INFINITE | MINUS_INFINITE => return Err(Unfit::Unrepresentable("an infinite numeric")),
        _other => return Err(malformed),
    };
    if groups.len() != usize::from(n_groups) * 2 {
        return Err(malformed);
    }
    let last = i32::from(weight) - i32::from(n_groups) + 1;
    Ok(Parts { groups, is_negative, exponent: GROUP_DIGITS * last })
}

fn u16_of(group: &[u8]) -> u16 {
    group.iter().fold(0, |value, byte| (value << 8) | u16::from(*byte))
}

fn times_plus(value: i128, factor: i128, add: i128) -> Result<i128, Unfit> {
    value.checked_mul(factor).and_then(|value| value.checked_add(add)).ok_or(TOO_LONG)
}

/// Writes length and bytes of `value / 10^scale`.
pub(super) fn put_decimal128(buffer: &mut BytesMut, value: i128, scale: i8) {
    let mut groups = Groups::new(value < 0, scale);
    let mut rest = value.unsigned_abs();
    let cut = groups.last_digits();
    // The last group holds the digits that do not fill one, moved to its front.
    let (first, moved) = (10_u128.pow(cut), 10_u128.pow(GROUP_DIGITS.unsigned_abs() - cut));
    groups.push((rest % first) * moved);
    rest /= first;
    while rest > u128::from(u64::MAX) {
        groups.push(rest % GROUP.unsigned_abs());
        rest /= GROUP.unsigned_abs();
    }
    // Nearly all numbers fit 64 bits, whose division is many times faster.
    let mut rest = u64::try_from(rest).unwrap_or(u64::MAX);
    while rest > 0 {
        groups.push(u128::from(rest % 10_000));
        rest /= 10_000;
    }
    groups.put(buffer);
}

/// The same for longer numbers; by way of their digits, because such numbers are rare.
pub(super) fn put_decimal256(buffer: &mut BytesMut, value: i256, scale: i8) {
    let text = value.to_string();
    let digits = text.trim_start_matches('-');
    let mut groups = Groups::new(value.is_negative(), scale);
    let number = |digits: &str| digits.parse::<u128>().unwrap_or_default();
    let cut = groups.last_digits();
    let place = digits.len().saturating_sub(cut.try_into().unwrap_or_default());
    let (mut front, last) = digits.split_at(place);
    groups.push(number(last) * 10_u128.pow(GROUP_DIGITS.unsigned_abs() - cut));
    while !front.is_empty() {
        let (rest, group) = front.split_at(front.len().saturating_sub(4));
        groups.push(number(group));
        front = rest;
    }
    groups.put(buffer);
}

/// The most groups that a number of 76 digits has, one more on each side of the point.
const GROUPS_MAX: usize = 24;

/// The groups of a number, least significant first.
struct Groups {
    is_negative: bool,
    scale: u8,
    groups: [u16; GROUPS_MAX],
    n_groups: usize,
}

impl Groups {
    fn new(is_negative: bool, scale: i8) -> Self {
        // Columns of this connector have no negative scale.
        let scale = u8::try_from(scale).unwrap_or_default();
        Self { is_negative, scale, groups: [0; GROUPS_MAX], n_groups: 0 }
    }

    /// Returns how many digits the last group has: all, or those behind the last whole group after the point.
    fn last_digits(&self) -> u32 {
        match self.scale % 4 {
            0 => 4,
            digits => digits.into(),
        }
    }

    fn push(&mut self, group: u128) {
        if let Some(place) = self.groups.get_mut(self.n_groups) {
            *place = u16::try_from(group).unwrap_or_default();
            self.n_groups += 1;
        }
    }

    fn put(&self, buffer: &mut BytesMut) {
        let all = self.groups.get(..self.n_groups).unwrap_or_default();
        // The number of groups behind the point; the last of all, when the scale is none, is in front of it.
        let n_behind = i32::from(self.scale.div_ceil(4));
        let n_zeros_last = all.iter().take_while(|group| **group == 0).count();
        let significant = all.get(n_zeros_last..).unwrap_or_default();
        let n_zeros_first = significant.iter().rev().take_while(|group| **group == 0).count();
        let significant = significant.get(..significant.len() - n_zeros_first).unwrap_or_default();
        let n_all = i32::try_from(n_zeros_last + significant.len()).unwrap_or_default();
        let weight = if significant.is_empty() { 0 } else { n_all - n_behind - 1 };
        let n_bytes = HEADER_BYTES + significant.len() * 2;
        buffer.put_i32(i32::try_from(n_bytes).unwrap_or(i32::MAX));
        buffer.put_u16(u16::try_from(significant.len()).unwrap_or_default());
        buffer.put_i16(i16::try_from(weight).unwrap_or_default());
        buffer.put_u16(if self.is_negative { NEGATIVE } else { 0 });
        buffer.put_u16(self.scale.into());
        for group in significant.iter().rev() {
            buffer.put_u16(*group);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(weight: i16, sign: u16, groups: &[u16]) -> Vec<u8> {
        let mut bytes = u16::try_from(groups.len()).unwrap().to_be_bytes().to_vec();
        bytes.extend(weight.to_be_bytes());
        bytes.extend(sign.to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(groups.iter().flat_map(|group| group.to_be_bytes()));
        bytes
    }

    fn of(precision: u8, scale: i8) -> Digits {
        Digits { precision, scale }
    }

    fn check(bytes: &[u8], scale: i8, expected: i128) {
        assert_eq!(decimal128(bytes, of(38, scale)), Ok(expected));
        assert_eq!(decimal256(bytes, of(76, scale)), Ok(i256::from_i128(expected)));
    }

    #[test]
    fn digits_land_at_their_places() {
        check(&wire(0, 0, &[]), 2, 0);
        check(&wire(0, 0, &[123, 4500]), 2, 12_345);
        check(&wire(0, NEGATIVE, &[123, 4500]), 3, -123_450);
        check(&wire(1, 0, &[1]), 2, 1_000_000);
        check(&wire(-1, 0, &[50]), 4, 50);
        check(&wire(-2, 0, &[1]), 8, 1);
        check(&wire(0, 0, &[1, 2000]), 1, 12);
        check(&wire(1, 0, &[1, 2300]), 0, 12_300);
    }

    #[test]
    fn the_widest_values_are_exact() {
        // 9.99...9 with 37 digits behind the point: ten groups whose last has three zeros.
        let mut groups = vec![9u16];
        groups.extend([9999; 9]);
        groups.push(9000);
        check(&wire(0, 0, &groups), 37, 10i128.pow(38) - 1);
        assert!(decimal128(&wire(9, 0, &[9999; 10]), of(38, 0)).is_err());
        assert!(decimal256(&wire(9, 0, &[9999; 10]), of(76, 0)).is_ok());
    }

    #[test]
    fn what_does_not_fit_is_no_value() {
        assert_eq!(decimal128(&wire(0, 0, &[1, 2345]), of(38, 2)), Err(TOO_LONG));
        assert_eq!(decimal256(&wire(0, 0, &[1, 2345]), of(76, 2)), Err(TOO_LONG));
        assert!(matches!(
            decimal128(&wire(0, NAN, &[]), of(38, 2)),
            Err(Unfit::Unrepresentable(_))
        ));
        assert!(matches!(
            decimal128(&wire(0, INFINITE, &[]), of(38, 2)),
            Err(Unfit::Unrepresentable(_))
        ));
        assert_eq!(decimal128(&wire(0, 0, &[1234]), of(4, 0)), Ok(1234));
        assert_eq!(decimal128(&wire(0, 0, &[1234]), of(3, 0)), Err(TOO_LONG));
        assert_eq!(decimal256(&wire(0, NEGATIVE, &[1234]), of(3, 0)), Err(TOO_LONG));
        assert!(matches!(decimal128(&[0, 1, 0], of(38, 2)), Err(Unfit::Malformed(_))));
    }

    #[test]
    fn what_is_written_reads_back() {
        let mut values =
            vec![0, 1, -1, 9, 10_000, 9_999, 100_000_000, -12_345, i128::from(u64::MAX)];
        values.extend([10_i128.pow(38) - 1, 1 - 10_i128.pow(38), 10_i128.pow(37), 10_i128.pow(20)]);
        for value in values {
            for scale in 0..=38 {
                let mut buffer = BytesMut::new();
                put_decimal128(&mut buffer, value, scale);
                let length = i32::from_be_bytes(buffer[..4].try_into().unwrap());
                assert_eq!(usize::try_from(length).unwrap(), buffer.len() - 4);
                assert_eq!(decimal128(&buffer[4..], of(38, scale)), Ok(value), "{value} {scale}");
                let mut wide = BytesMut::new();
                put_decimal256(&mut wide, i256::from_i128(value), scale);
                assert_eq!(wide, buffer, "{value} {scale}");
            }
        }
        let longest = i256::from_string(&"9".repeat(76)).unwrap();
        for scale in [0, 1, 37, 76] {
            let mut buffer = BytesMut::new();
            put_decimal256(&mut buffer, longest, scale);
            assert_eq!(decimal256(&buffer[4..], of(76, scale)), Ok(longest), "{scale}");
        }
    }
}
