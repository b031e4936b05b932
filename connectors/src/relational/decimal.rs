//! Decimals that arrive as text: exact or not at all.

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, i256};

use super::Cell;

/// So many digits always fit into 64 bits.
const SHORT_DIGITS: usize = 18;

/// The least numbers of more than so many digits.
const SHORT_POWERS: [i64; SHORT_DIGITS + 1] = {
    let mut powers = [1; SHORT_DIGITS + 1];
    let mut digits = 1;
    while digits < powers.len() {
        powers[digits] = powers[digits - 1] * 10;
        digits += 1;
    }
    powers
};

/// The digits of a sum that others may be added to: as many as 128 bits have.
pub const TOTAL_DIGITS: u8 = 39;

/// Returns the exact decimal that a text spells (`-12.30`), or `None` if it spells none of that precision
/// and scale.
pub fn decimal_cell(text: &[u8], precision: u8, scale: i8) -> Option<Cell<'static>> {
    match precision > DECIMAL128_MAX_PRECISION {
        true => wide_decimal(text, precision, scale).map(Cell::WideDecimal),
        false => decimal(text, precision, scale).map(Cell::Decimal),
    }
}

/// The same of at most 38 digits, or of [`TOTAL_DIGITS`] as far as 128 bits go. Most are short, and long arithmetic is slow.
#[inline]
pub fn decimal(text: &[u8], precision: u8, scale: i8) -> Option<i128> {
    if text.len() + usize::from(scale.unsigned_abs()) <= SHORT_DIGITS {
        let mut value = 0_i64;
        let negative = for_each_digit(text, scale, |digit| {
            value = value * 10 + i64::from(digit);
            Some(())
        })?;
        // So few digits fit every longer type.
        let fits = SHORT_POWERS.get(usize::from(precision)).is_none_or(|power| value < *power);
        return fits.then_some(if negative { -value } else { value }.into());
    }
    let mut value = 0_i128;
    let negative = for_each_digit(text, scale, |digit| {
        value = value.checked_mul(10)?.checked_add(digit.into())?;
        Some(())
    })?;
    // All numbers of 128 bits have less than 40 digits.
    let fits = 10_i128.checked_pow(precision.into()).is_none_or(|power| value < power);
    fits.then_some(if negative { -value } else { value })
}

/// The same of more digits; by way of them, because such numbers are rare.
pub fn wide_decimal(text: &[u8], precision: u8, scale: i8) -> Option<i256> {
    let mut digits = String::with_capacity(text.len() + 1);
    let negative = for_each_digit(text, scale, |digit| {
        digits.push(char::from(b'0' + digit));
        Some(())
    })?;
    let significant = digits.trim_start_matches('0').len();
    let value = i256::from_string(&digits).filter(|_| significant <= precision.into())?;
    Some(if negative { value.wrapping_neg() } else { value })
}

/// Calls `visit` for each digit of the unscaled value; returns whether it is negative.
#[inline]
fn for_each_digit(text: &[u8], scale: i8, mut visit: impl FnMut(u8) -> Option<()>) -> Option<bool> {
    let (negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        text => (false, text),
    };
    let point = text.iter().position(|byte| *byte == b'.').unwrap_or(text.len());
    let (whole, rest) = text.split_at(point);
    let fraction = rest.get(1..).unwrap_or_default();
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let scale = usize::try_from(scale).ok()?;
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| byte - b'0');
    for byte in whole {
        visit(digit(byte)?)?;
    }
    for (place, byte) in fraction.iter().enumerate() {
        let digit = digit(byte)?;
        if place < scale {
            visit(digit)?;
        } else if digit != 0 {
            return None;
        }
    }
    for _ in fraction.len()..scale {
        visit(0)?;
    }
    Some(negative)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact_or_refused() {
        let narrow = |text: &str| decimal_cell(text.as_bytes(), 5, 2);
        assert_eq!(narrow("123.45"), Some(Cell::Decimal(12345)));
        assert_eq!(narrow("-0.5"), Some(Cell::Decimal(-50)));
        assert_eq!(narrow("7"), Some(Cell::Decimal(700)));
        assert_eq!(narrow("0001.100"), Some(Cell::Decimal(110)));
        assert_eq!(narrow(".5"), Some(Cell::Decimal(50)));
        for wrong in ["", ".", "-", "1.005", "1000", "1e3", "1 ", "0x1", "1.2.3", "٣"] {
            assert_eq!(narrow(wrong), None, "{wrong}");
        }
        assert_eq!(decimal(b"99999", 5, 0), Some(99_999));
        assert_eq!(decimal(b"100000", 5, 0), None);
        let nines = "9".repeat(18);
        assert_eq!(decimal(nines.as_bytes(), 18, 0), Some(10_i128.pow(18) - 1));
        assert_eq!(decimal(nines.as_bytes(), 17, 0), None);
        assert_eq!(decimal(format!("-{nines}9").as_bytes(), 19, 0), Some(1 - 10_i128.pow(19)));
        let nines = "9".repeat(65);
        let wide = decimal_cell(nines.as_bytes(), 65, 0).unwrap();
        assert_eq!(wide, Cell::WideDecimal(i256::from_string(&nines).unwrap()));
        assert_eq!(decimal_cell(nines.as_bytes(), 64, 0), None);
        assert!(decimal_cell("9".repeat(38).as_bytes(), 38, 0).is_some());
    }
}
