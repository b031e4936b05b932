//! PostgreSQL's binary `numeric`: groups of four decimal digits, most significant first.
//!
//! ```text
//! u16 n groups | i16 weight of the first, in groups | u16 sign | u16 digits shown | n x u16 group
//! ```

use datafusion::arrow::datatypes::i256;

use super::wire::Unfit;

const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xC000;
const INFINITE: u16 = 0xD000;
const MINUS_INFINITE: u16 = 0xF000;
/// The value of a place in front of another.
const GROUP: i128 = 10_000;
const GROUP_DIGITS: i32 = 4;
const HEADER_BYTES: usize = 8;

/// A value before its scale is applied: `groups` are the digits, the last of them counts `10^exponent`.
struct Parts<'a> {
    groups: &'a [u8],
    is_negative: bool,
    exponent: i32,
}

/// Returns the value times `10^scale`; exact or not at all.
pub(super) fn decimal128(bytes: &[u8], scale: i8) -> Result<i128, Unfit> {
    let parts = parts(bytes)?;
    let shift = parts.exponent + i32::from(scale);
    let (mut value, mut groups) = (0i128, parts.groups.chunks_exact(2).peekable());
    while let Some(group) = groups.next() {
        let group = i128::from(u16_of(group));
        if groups.peek().is_some() || shift >= 0 {
            value = times_plus(value, GROUP, group)?;
            continue;
        }
        // The digits of the last group behind the scale are zeros, or the column lied about its type.
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
    Ok(if parts.is_negative { -value } else { value })
}

/// Returns the value times `10^scale`; by way of its digits, because such numbers are rare.
pub(super) fn decimal256(bytes: &[u8], scale: i8) -> Result<i256, Unfit> {
    let parts = parts(bytes)?;
    let mut digits: String =
        parts.groups.chunks_exact(2).map(|group| format!("{:04}", u16_of(group))).collect();
    let shift = parts.exponent + i32::from(scale);
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

    fn check(bytes: &[u8], scale: i8, expected: i128) {
        assert_eq!(decimal128(bytes, scale), Ok(expected));
        assert_eq!(decimal256(bytes, scale), Ok(i256::from_i128(expected)));
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
        assert!(decimal128(&wire(9, 0, &[9999; 10]), 0).is_err());
        assert!(decimal256(&wire(9, 0, &[9999; 10]), 0).is_ok());
    }

    #[test]
    fn what_does_not_fit_is_no_value() {
        assert_eq!(decimal128(&wire(0, 0, &[1, 2345]), 2), Err(TOO_LONG));
        assert_eq!(decimal256(&wire(0, 0, &[1, 2345]), 2), Err(TOO_LONG));
        assert!(matches!(decimal128(&wire(0, NAN, &[]), 2), Err(Unfit::Unrepresentable(_))));
        assert!(matches!(decimal128(&wire(0, INFINITE, &[]), 2), Err(Unfit::Unrepresentable(_))));
        assert!(matches!(decimal128(&[0, 1, 0], 2), Err(Unfit::Malformed(_))));
    }
}
