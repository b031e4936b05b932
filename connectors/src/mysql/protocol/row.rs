//! One row of the binary protocol, read where it lies.
//!
//! ```text
//! bits of the NULLs, from the third on | for each other column, its value
//! integers, floats   as many bytes as the type has, lowest first
//! dates, times       u8 length | parts, as many as are not zero
//! all else           length | bytes
//! ```
//! See "Binary Protocol Resultset" in the protocol's documentation.

use mysql_async::Column;
use mysql_async::consts::{ColumnFlags, ColumnType};

/// The first bits of the NULLs mean nothing.
const NULLS_OFFSET: usize = 2;

/// How the values of a column are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Int8,
    Int16,
    Int32,
    Int64,
    UInt8,
    UInt16,
    UInt32,
    UInt64,
    Float,
    Double,
    Date,
    Time,
    Bytes,
    Null,
}

impl Kind {
    /// Returns how the values of a column are written.
    pub(super) fn of(column: &Column) -> Self {
        let signs = |signed, unsigned| match column.flags().contains(ColumnFlags::UNSIGNED_FLAG) {
            true => unsigned,
            false => signed,
        };
        match column.column_type() {
            ColumnType::MYSQL_TYPE_TINY => signs(Self::Int8, Self::UInt8),
            ColumnType::MYSQL_TYPE_SHORT | ColumnType::MYSQL_TYPE_YEAR => {
                signs(Self::Int16, Self::UInt16)
            }
            ColumnType::MYSQL_TYPE_LONG | ColumnType::MYSQL_TYPE_INT24 => {
                signs(Self::Int32, Self::UInt32)
            }
            ColumnType::MYSQL_TYPE_LONGLONG => signs(Self::Int64, Self::UInt64),
            ColumnType::MYSQL_TYPE_FLOAT => Self::Float,
            ColumnType::MYSQL_TYPE_DOUBLE => Self::Double,
            ColumnType::MYSQL_TYPE_DATE
            | ColumnType::MYSQL_TYPE_DATETIME
            | ColumnType::MYSQL_TYPE_TIMESTAMP => Self::Date,
            ColumnType::MYSQL_TYPE_TIME => Self::Time,
            ColumnType::MYSQL_TYPE_NULL => Self::Null,
            // Decimals, text, bytes, bits, sets, json, geometry, and what comes next.
            _ => Self::Bytes,
        }
    }
}

/// One value as it was written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in super::super) enum Raw<'a> {
    Null,
    Int(i64),
    UInt(u64),
    Float(f32),
    Double(f64),
    Bytes(&'a [u8]),
    Date { year: u16, month: u8, day: u8, hour: u8, minute: u8, second: u8, micros: u32 },
    Time { negative: bool, days: u32, hours: u8, minutes: u8, seconds: u8, micros: u32 },
}

/// The values of one row, from the first on.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Row<'a> {
    nulls: &'a [u8],
    rest: &'a [u8],
    kinds: &'a [Kind],
    place: usize,
}

impl<'a> Row<'a> {
    /// Returns the row of so many columns, or `None` if it is too short for them.
    #[inline]
    pub(super) fn new(bytes: &'a [u8], kinds: &'a [Kind]) -> Option<Self> {
        let (nulls, rest) = bytes.split_at_checked((kinds.len() + NULLS_OFFSET).div_ceil(8))?;
        Some(Self { nulls, rest, kinds, place: 0 })
    }

    /// Returns how many bytes the values that were not read take.
    pub(in super::super) fn len(&self) -> usize {
        self.rest.len()
    }

    /// Returns the value of the next column, or `None` if the row has none or breaks off.
    #[inline]
    pub(in super::super) fn next_value(&mut self) -> Option<Raw<'a>> {
        let kind = *self.kinds.get(self.place)?;
        let bit = self.place + NULLS_OFFSET;
        self.place += 1;
        if self.nulls.get(bit / 8)? & (1 << (bit % 8)) != 0 {
            return Some(Raw::Null);
        }
        Some(match kind {
            Kind::Int8 => Raw::Int(i8::from_le_bytes(self.fixed()?).into()),
            Kind::Int16 => Raw::Int(i16::from_le_bytes(self.fixed()?).into()),
            Kind::Int32 => Raw::Int(i32::from_le_bytes(self.fixed()?).into()),
            Kind::Int64 => Raw::Int(i64::from_le_bytes(self.fixed()?)),
            Kind::UInt8 => Raw::UInt(u8::from_le_bytes(self.fixed()?).into()),
            Kind::UInt16 => Raw::UInt(u16::from_le_bytes(self.fixed()?).into()),
            Kind::UInt32 => Raw::UInt(u32::from_le_bytes(self.fixed()?).into()),
            Kind::UInt64 => Raw::UInt(u64::from_le_bytes(self.fixed()?)),
            Kind::Float => Raw::Float(f32::from_le_bytes(self.fixed()?)),
            Kind::Double => Raw::Double(f64::from_le_bytes(self.fixed()?)),
            Kind::Date => self.date()?,
            Kind::Time => self.time()?,
            Kind::Bytes => {
                let length = self.length()?;
                Raw::Bytes(self.bytes(length)?)
            }
            Kind::Null => Raw::Null,
        })
    }

    #[inline]
    fn fixed<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (value, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*value)
    }

    #[inline]
    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (value, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(value)
    }

    /// Reads a length-encoded integer.
    #[inline]
    fn length(&mut self) -> Option<usize> {
        let [first] = self.fixed()?;
        match first {
            ..=0xFA => Some(first.into()),
            0xFC => Some(u16::from_le_bytes(self.fixed()?).into()),
            0xFD => {
                let [low, middle, high] = self.fixed()?;
                usize::try_from(u32::from_le_bytes([low, middle, high, 0])).ok()
            }
            0xFE => usize::try_from(u64::from_le_bytes(self.fixed()?)).ok(),
            0xFB | 0xFF => None,
        }
    }

    #[inline]
    fn date(&mut self) -> Option<Raw<'a>> {
        let [length] = self.fixed()?;
        let parts = self.bytes(length.into())?;
        let (date, time) = parts.split_at(parts.len().min(4));
        let (time, micros) = time.split_at(time.len().min(3));
        let (year, month, day) = match date {
            [] => (0, 0, 0),
            [low, high, month, day] => (u16::from_le_bytes([*low, *high]), *month, *day),
            _ => return None,
        };
        let (hour, minute, second) = three(time)?;
        Some(Raw::Date { year, month, day, hour, minute, second, micros: four(micros)? })
    }

    #[inline]
    fn time(&mut self) -> Option<Raw<'a>> {
        let [length] = self.fixed()?;
        let parts = self.bytes(length.into())?;
        let (front, time) = parts.split_at(parts.len().min(5));
        let (time, micros) = time.split_at(time.len().min(3));
        let (negative, days) = match front {
            [] => (false, 0),
            [negative, days @ ..] => (*negative != 0, four(days)?),
        };
        let (hours, minutes, seconds) = three(time)?;
        Some(Raw::Time { negative, days, hours, minutes, seconds, micros: four(micros)? })
    }
}

/// Returns hours, minutes, seconds; zeros where they are left out.
fn three(bytes: &[u8]) -> Option<(u8, u8, u8)> {
    match bytes {
        [] => Some((0, 0, 0)),
        [hours, minutes, seconds] => Some((*hours, *minutes, *seconds)),
        _ => None,
    }
}

/// Returns a number of four bytes; zero where it is left out.
fn four(bytes: &[u8]) -> Option<u32> {
    match bytes {
        [] => Some(0),
        bytes => Some(u32::from_le_bytes(bytes.try_into().ok()?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(bytes: &[u8], kinds: &[Kind]) -> Option<Vec<Raw<'static>>> {
        // Only for tests: what is borrowed outlives them.
        let bytes: &'static [u8] = Vec::leak(bytes.to_vec());
        let kinds: &'static [Kind] = Vec::leak(kinds.to_vec());
        let mut row = Row::new(bytes, kinds)?;
        kinds.iter().map(|_| row.next_value()).collect()
    }

    #[test]
    fn values_are_read_in_their_order() {
        let kinds = [Kind::Int8, Kind::UInt64, Kind::Bytes, Kind::Null, Kind::Double, Kind::Int16];
        let mut bytes = vec![0b0000_0000, 0xFE];
        bytes.extend(u64::MAX.to_le_bytes());
        bytes.extend(b"\x03abc");
        bytes.extend((-0.5_f64).to_le_bytes());
        bytes.extend((-2_i16).to_le_bytes());
        let wanted = vec![
            Raw::Int(-2),
            Raw::UInt(u64::MAX),
            Raw::Bytes(b"abc"),
            Raw::Null,
            Raw::Double(-0.5),
            Raw::Int(-2),
        ];
        assert_eq!(values(&bytes, &kinds), Some(wanted));
        for cut in 0..bytes.len() {
            assert_eq!(values(&bytes[..cut], &kinds), None, "{cut}");
        }
    }

    #[test]
    fn nulls_take_no_bytes() {
        // The seventh column's bit is the first of the second byte.
        let kinds = [Kind::Int32; 8];
        let bytes = [0b1111_0100, 0b0000_0001, 7, 0, 0, 0, 8, 0, 0, 0];
        let values = values(&bytes, &kinds).unwrap();
        let wanted = [Raw::Null, Raw::Int(7), Raw::Null, Raw::Null, Raw::Null, Raw::Null];
        assert_eq!(values[..6], wanted);
        assert_eq!(values[6..], [Raw::Null, Raw::Int(8)]);
    }

    #[test]
    fn parts_that_are_zero_are_left_out() {
        let date = |year, month, day, hour, micros| Raw::Date {
            year,
            month,
            day,
            hour,
            minute: 0,
            second: 0,
            micros,
        };
        let of = |bytes: &[u8]| values(&[&[0], bytes].concat(), &[Kind::Date]);
        assert_eq!(of(&[0]), Some(vec![date(0, 0, 0, 0, 0)]));
        assert_eq!(of(&[4, 0xE8, 7, 2, 29]), Some(vec![date(2024, 2, 29, 0, 0)]));
        assert_eq!(of(&[7, 0xE8, 7, 2, 29, 5, 0, 0]), Some(vec![date(2024, 2, 29, 5, 0)]));
        let long = [11, 0xE8, 7, 2, 29, 5, 0, 0, 1, 0, 0, 0];
        assert_eq!(of(&long), Some(vec![date(2024, 2, 29, 5, 1)]));
        assert_eq!(of(&[5, 0xE8, 7, 2, 29, 5]), None);
        let time = |bytes: &[u8]| values(&[&[0], bytes].concat(), &[Kind::Time]);
        let nothing =
            Raw::Time { negative: false, days: 0, hours: 0, minutes: 0, seconds: 0, micros: 0 };
        assert_eq!(time(&[0]), Some(vec![nothing]));
        let late =
            Raw::Time { negative: true, days: 34, hours: 22, minutes: 59, seconds: 58, micros: 0 };
        assert_eq!(time(&[8, 1, 34, 0, 0, 0, 22, 59, 58]), Some(vec![late]));
    }

    #[test]
    fn long_values_have_long_lengths() {
        for length in [0, 0xFA, 0xFB, 0xFFFF, 0x1_0000, 0xFF_FFFF, 0x100_0000] {
            let mut bytes = vec![0];
            match u32::try_from(length).unwrap() {
                short @ ..=0xFA => bytes.push(u8::try_from(short).unwrap()),
                middle @ ..=0xFFFF => {
                    bytes.push(0xFC);
                    bytes.extend(&middle.to_le_bytes()[..2]);
                }
                long @ ..=0xFF_FFFF => {
                    bytes.push(0xFD);
                    bytes.extend(&long.to_le_bytes()[..3]);
                }
                longest => {
                    bytes.push(0xFE);
                    bytes.extend(u64::from(longest).to_le_bytes());
                }
            }
            bytes.extend(vec![7; length]);
            let kinds = [Kind::Bytes];
            let mut row = Row::new(&bytes, &kinds).unwrap();
            assert_eq!(row.next_value(), Some(Raw::Bytes(&vec![7; length])));
        }
    }
}
