//! Rows of the binary protocol, read where they lie.
//!
//! ```text
//! bits of the NULLs, from the third on | for each other column, its value
//! integers, floats   as many bytes as the type has, lowest first
//! dates, times       u8 length | parts, as many as are not zero
//! all else           length | bytes
//! ```
//! See "Binary Protocol Resultset" in the protocol's documentation.

use std::ops::Range;

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

/// Why a column cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in super::super) enum Refused<'a> {
    /// A row is shorter than its values.
    Broken,
    /// Whoever was handed this value did not take it.
    Unfit(Raw<'a>),
}

/// What of a row was not read, and where its NULLs are: places in the bytes of a [`Block`].
#[derive(Debug)]
pub(super) struct Unread {
    nulls: usize,
    begin: usize,
    end: usize,
}

impl Unread {
    /// Returns a row of so many columns, or `None` if it is too short for them.
    pub(super) fn new(place: Range<usize>, n_columns: usize) -> Option<Self> {
        let nulls = place.start;
        let begin = nulls + (n_columns + NULLS_OFFSET).div_ceil(8);
        (begin <= place.end).then_some(Self { nulls, begin, end: place.end })
    }
}

/// Rows that have arrived together. They are read column by column, from the first on: what a value is, is asked once for
/// all of them.
#[derive(Debug)]
pub(in super::super) struct Block<'a> {
    bytes: &'a [u8],
    rows: &'a mut [Unread],
    kinds: &'a [Kind],
    place: usize,
}

impl<'a> Block<'a> {
    /// Returns the rows at these places of the bytes; a column is written as its kind says.
    pub(super) fn new(bytes: &'a [u8], rows: &'a mut [Unread], kinds: &'a [Kind]) -> Self {
        Self { bytes, rows, kinds, place: 0 }
    }

    pub(in super::super) fn n_rows(&self) -> usize {
        self.rows.len()
    }

    /// Returns how many bytes the values take that were not read.
    pub(in super::super) fn n_bytes(&self) -> usize {
        self.rows.iter().map(|row| row.end - row.begin).sum()
    }

    /// Hands the values of the next column to `put`, row by row, until it returns false.
    pub(in super::super) fn next_column(
        &mut self,
        put: impl FnMut(Raw<'a>) -> bool,
    ) -> Result<(), Refused<'a>> {
        let kind = *self.kinds.get(self.place).ok_or(Refused::Broken)?;
        match kind {
            Kind::Int8 => {
                self.each(|rest| Some(Raw::Int(i8::from_le_bytes(rest.fixed()?).into())), put)
            }
            Kind::Int16 => {
                self.each(|rest| Some(Raw::Int(i16::from_le_bytes(rest.fixed()?).into())), put)
            }
            Kind::Int32 => {
                self.each(|rest| Some(Raw::Int(i32::from_le_bytes(rest.fixed()?).into())), put)
            }
            Kind::Int64 => self.each(|rest| Some(Raw::Int(i64::from_le_bytes(rest.fixed()?))), put),
            Kind::UInt8 => {
                self.each(|rest| Some(Raw::UInt(u8::from_le_bytes(rest.fixed()?).into())), put)
            }
            Kind::UInt16 => {
                self.each(|rest| Some(Raw::UInt(u16::from_le_bytes(rest.fixed()?).into())), put)
            }
            Kind::UInt32 => {
                self.each(|rest| Some(Raw::UInt(u32::from_le_bytes(rest.fixed()?).into())), put)
            }
            Kind::UInt64 => {
                self.each(|rest| Some(Raw::UInt(u64::from_le_bytes(rest.fixed()?))), put)
            }
            Kind::Float => {
                self.each(|rest| Some(Raw::Float(f32::from_le_bytes(rest.fixed()?))), put)
            }
            Kind::Double => {
                self.each(|rest| Some(Raw::Double(f64::from_le_bytes(rest.fixed()?))), put)
            }
            Kind::Date => self.each(Rest::date, put),
            Kind::Time => self.each(Rest::time, put),
            Kind::Bytes => {
                self.each(|rest| rest.length().and_then(|n| rest.bytes(n)).map(Raw::Bytes), put)
            }
            Kind::Null => self.each(|_rest| Some(Raw::Null), put),
        }
    }

    #[inline]
    fn each(
        &mut self,
        read: impl Fn(&mut Rest<'a>) -> Option<Raw<'a>>,
        mut put: impl FnMut(Raw<'a>) -> bool,
    ) -> Result<(), Refused<'a>> {
        let (bytes, bit) = (self.bytes, self.place + NULLS_OFFSET);
        let (null_byte, null_bit) = (bit / 8, 1 << (bit % 8));
        self.place += 1;
        for row in self.rows.iter_mut() {
            let nulls = *bytes.get(row.nulls + null_byte).ok_or(Refused::Broken)?;
            let value = if nulls & null_bit == 0 {
                let mut rest = Rest(bytes.get(row.begin..row.end).ok_or(Refused::Broken)?);
                let value = read(&mut rest).ok_or(Refused::Broken)?;
                row.begin = row.end - rest.0.len();
                value
            } else {
                Raw::Null
            };
            if !put(value) {
                return Err(Refused::Unfit(value));
            }
        }
        Ok(())
    }
}

/// The bytes of a row from the next value on.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    #[inline]
    fn fixed<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (value, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*value)
    }

    #[inline]
    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (value, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
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

    /// Returns the values of a row.
    fn values(bytes: &[u8], kinds: &[Kind]) -> Option<Vec<Raw<'static>>> {
        // Only for tests: what is borrowed outlives them.
        let bytes: &'static [u8] = Vec::leak(bytes.to_vec());
        let kinds: &'static [Kind] = Vec::leak(kinds.to_vec());
        let rows = Vec::leak(vec![Unread::new(0..bytes.len(), kinds.len())?]);
        let (mut block, mut values) = (Block::new(bytes, rows, kinds), Vec::new());
        for _kind in kinds {
            let put = |value| {
                values.push(value);
                true
            };
            block.next_column(put).ok()?;
        }
        Some(values)
    }

    #[test]
    fn columns_are_read_of_all_rows() {
        let kinds = [Kind::Int8, Kind::Bytes];
        let bytes = b"\0\x07\x01a\x04\x01b\0\x09\0".as_slice();
        let mut rows: Vec<Unread> =
            [0..4, 4..7, 7..10].map(|place| Unread::new(place, 2).unwrap()).into();
        let mut block = Block::new(bytes, &mut rows, &kinds);
        assert_eq!((block.n_rows(), block.n_bytes()), (3, 7));
        let mut seen = Vec::new();
        let mut put = |value| {
            seen.push(value);
            seen.len() < 6
        };
        assert_eq!(block.next_column(&mut put), Ok(()));
        assert_eq!(block.next_column(&mut put), Err(Refused::Unfit(Raw::Bytes(b""))));
        let first = [Raw::Int(7), Raw::Null, Raw::Int(9)];
        assert_eq!(seen[..3], first);
        assert_eq!(seen[3..], [Raw::Bytes(b"a"), Raw::Bytes(b"b"), Raw::Bytes(b"")]);
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
            assert_eq!(values(&bytes, &[Kind::Bytes]), Some(vec![Raw::Bytes(&vec![7; length])]));
        }
    }
}
