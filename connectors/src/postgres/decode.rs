//! The stream of a binary `COPY`, cut into rows and gathered into batches.
//!
//! ```text
//! "PGCOPY\n\xff\r\n\0" | u32 flags | u32 length, extension | rows | i16 -1
//! row: i16 n columns | n x (i32 length or -1 | bytes)
//! ```
//! Messages need not end where rows end. A stream without its end mark is an error, never a short answer.

use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::{RecordBatch, RecordBatchOptions};
use meshwork_engine::remote::RemoteScan;
use meshwork_engine::{Error, Result};

use super::columns::Detail;
use super::configuration::Unrepresentable;
use super::values::{Unfit, Values};

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// Signature, flags, length of the extension.
const HEADER_BYTES: usize = 19;
/// Bit 16: rows carry object ids, as servers before 12 could be asked to.
const CRITICAL_FLAGS: u32 = 0xFFFF_0000;
/// A batch ends early when it holds that much: rows may be wide, and offsets in arrays are 32 bits.
const BATCH_BYTES_MAX: usize = 16 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Header,
    Rows,
    Ended,
}

/// Gathers one stream.
#[derive(Debug)]
pub(super) struct Decoder {
    schema: SchemaRef,
    names: Vec<String>,
    columns: Vec<Values>,
    state: State,
    /// The beginning of a row or header whose end has not arrived.
    carry: Vec<u8>,
    /// Where the fields of the current row are; reused.
    fields: Vec<Option<(usize, usize)>>,
    n_rows: usize,
    n_bytes: usize,
    rows_max: usize,
}

impl Decoder {
    /// Returns a decoder of the scan's columns into batches of `rows_max`.
    pub(super) fn new(scan: &RemoteScan, rows_max: usize) -> Result<Self> {
        let output = scan.output();
        let mut columns = Vec::with_capacity(output.len());
        for column in &output {
            let detail = Detail::of(column)?;
            let unrepresentable = match detail.may_become_null {
                true => Unrepresentable::Null,
                false => Unrepresentable::Error,
            };
            columns.push(Values::new(&detail.wire, unrepresentable)?);
        }
        Ok(Self {
            schema: scan.output_schema(),
            names: output.into_iter().map(|column| column.name).collect(),
            columns,
            state: State::Header,
            carry: Vec::new(),
            fields: Vec::new(),
            n_rows: 0,
            n_bytes: 0,
            rows_max: rows_max.max(1),
        })
    }

    /// Whether a batch should be taken before more is pushed.
    pub(super) fn is_full(&self) -> bool {
        self.n_rows >= self.rows_max || self.n_bytes >= BATCH_BYTES_MAX
    }

    /// Takes in the next piece of the stream.
    pub(super) fn push(&mut self, piece: &[u8]) -> Result<()> {
        self.n_bytes += piece.len();
        if self.carry.is_empty() {
            let used = self.consume(piece)?;
            self.carry.extend_from_slice(piece.get(used..).unwrap_or_default());
        } else {
            let mut joined = std::mem::take(&mut self.carry);
            joined.extend_from_slice(piece);
            let used = self.consume(&joined)?;
            joined.drain(..used);
            self.carry = joined;
        }
        Ok(())
    }

    /// Returns the rows gathered so far, `None` if there are none.
    pub(super) fn take(&mut self) -> Result<Option<RecordBatch>> {
        if self.n_rows == 0 {
            return Ok(None);
        }
        let mut arrays = Vec::with_capacity(self.columns.len());
        for column in &mut self.columns {
            arrays.push(column.finish()?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(self.n_rows));
        (self.n_rows, self.n_bytes) = (0, 0);
        let schema = Arc::clone(&self.schema);
        Ok(Some(RecordBatch::try_new_with_options(schema, arrays, &options)?))
    }

    /// Says that the stream has ended: an error unless it was whole.
    pub(super) fn end(&self) -> Result<()> {
        match self.state {
            State::Ended => Ok(()),
            State::Header | State::Rows => Err(broken("ended early")),
        }
    }

    /// Reads all whole rows at the beginning of `bytes`; returns how many bytes they took.
    fn consume(&mut self, bytes: &[u8]) -> Result<usize> {
        let mut at = 0;
        while at < bytes.len() {
            let used = match self.state {
                State::Header => self.header(bytes)?,
                State::Rows => self.row(bytes, at)?,
                State::Ended => return Err(broken("goes on behind its end")),
            };
            match used {
                Some(used) => at += used,
                None => break,
            }
        }
        Ok(at)
    }

    fn header(&mut self, bytes: &[u8]) -> Result<Option<usize>> {
        let Some((header, _rest)) = bytes.split_at_checked(HEADER_BYTES) else { return Ok(None) };
        if !header.starts_with(SIGNATURE) {
            return Err(broken("does not begin as one"));
        }
        let number = |at| i32_at(header, at).map(i32::cast_unsigned);
        let (Some(flags), Some(extension)) = (number(11), number(15)) else { return Ok(None) };
        if flags & CRITICAL_FLAGS != 0 || extension != 0 {
            return Err(broken("has features that are not known"));
        }
        self.state = State::Rows;
        Ok(Some(HEADER_BYTES))
    }

    /// Reads the row at `start`, if all of it is there; returns its length.
    #[inline]
    fn row(&mut self, bytes: &[u8], start: usize) -> Result<Option<usize>> {
        let Some(count) = bytes.get(start..start + 2) else { return Ok(None) };
        let mut at = start + 2;
        if count == [0xFF, 0xFF] {
            self.state = State::Ended;
            return Ok(Some(2));
        }
        let n_columns = count.iter().fold(0, |value, byte| (value << 8) | usize::from(*byte));
        if n_columns != self.columns.len() {
            return Err(broken("has another number of columns"));
        }
        self.fields.clear();
        for _column in 0..n_columns {
            let Some(length) = i32_at(bytes, at) else { return Ok(None) };
            at += 4;
            match usize::try_from(length) {
                Ok(length) => {
                    self.fields.push(Some((at, at + length)));
                    at += length;
                }
                Err(_null) => self.fields.push(None),
            }
        }
        if at > bytes.len() {
            return Ok(None);
        }
        for (index, (column, field)) in self.columns.iter_mut().zip(&self.fields).enumerate() {
            let value = field.and_then(|(from, to)| bytes.get(from..to));
            if let Err(unfit) = column.append(value) {
                return Err(self.unfit(index, unfit));
            }
        }
        self.n_rows += 1;
        Ok(Some(at - start))
    }

    fn unfit(&self, index: usize, unfit: Unfit) -> Error {
        let column = self.names.get(index).map_or("", String::as_str);
        match unfit {
            Unfit::Unrepresentable(what) => Error::source(
                "VALUE_NOT_REPRESENTABLE",
                format!("column \"{column}\" holds {what}, for which there is no value here"),
            )
            .with_hint("Set unrepresentable = null in the catalog to read such values as NULL."),
            Unfit::Malformed(what) => Error::source(
                "SOURCE_PROTOCOL",
                format!("column \"{column}\" arrived as something else than {what}"),
            ),
        }
    }
}

#[inline]
fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    bytes.get(at..)?.first_chunk::<4>().map(|number| i32::from_be_bytes(*number))
}

fn broken(how: &str) -> Error {
    Error::source("SOURCE_PROTOCOL", format!("the COPY stream of PostgreSQL {how}")).retryable()
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::DataType;
    use meshwork_engine::remote::RemoteColumn;

    use super::super::columns::{Meaning, Sent};
    use super::super::wire::Wire;
    use super::*;

    fn scan(wires: &[Wire]) -> RemoteScan {
        let column = |(index, wire): (usize, &Wire)| RemoteColumn {
            name: format!("c{index}"),
            data_type: wire.data_type(),
            nullable: true,
            remote_type: String::new(),
            detail: serde_json::to_value(Detail {
                wire: wire.clone(),
                sent: Sent::Itself,
                meaning: Meaning::Opaque,
                may_become_null: false,
                is_indexed: false,
                collation: None,
                base_type: String::new(),
            })
            .unwrap(),
        };
        RemoteScan::whole("c", "s", "t", wires.iter().enumerate().map(column).collect())
    }

    fn stream(rows: &[Vec<Option<&[u8]>>]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([0; 8]);
        for row in rows {
            bytes.extend(u16::try_from(row.len()).unwrap().to_be_bytes());
            for field in row {
                let length = field.map_or(-1, |field| i32::try_from(field.len()).unwrap());
                bytes.extend(length.to_be_bytes());
                bytes.extend(field.unwrap_or_default());
            }
        }
        bytes.extend([0xFF, 0xFF]);
        bytes
    }

    #[test]
    fn rows_survive_any_cut_of_the_stream() {
        let scan = scan(&[Wire::Int32, Wire::Text]);
        let rows = [
            vec![Some(&[0, 0, 0, 7][..]), Some(b"seven")],
            vec![None, Some(b"")],
            vec![Some(&[0xFF; 4]), None],
        ];
        let bytes = stream(&rows);
        for piece in 1..bytes.len() {
            let mut decoder = Decoder::new(&scan, 8192).unwrap();
            for piece in bytes.chunks(piece) {
                decoder.push(piece).unwrap();
            }
            decoder.end().unwrap();
            let batch = decoder.take().unwrap().unwrap();
            let shown = arrow::util::pretty::pretty_format_batches(&[batch]).unwrap().to_string();
            assert_eq!(
                shown.lines().filter(|line| line.starts_with('|')).collect::<Vec<_>>(),
                ["| c0 | c1    |", "| 7  | seven |", "|    |       |", "| -1 |       |"]
            );
        }
    }

    #[test]
    fn a_stream_that_ends_early_is_an_error() {
        let bytes = stream(&[vec![Some(&[0, 0, 0, 7])]]);
        for kept in 0..bytes.len() {
            let mut decoder = Decoder::new(&scan(&[Wire::Int32]), 8192).unwrap();
            decoder.push(&bytes[..kept]).unwrap();
            assert!(decoder.end().is_err(), "{kept}");
        }
    }

    #[test]
    fn rows_without_columns_are_counted() {
        let mut decoder = Decoder::new(&scan(&[]), 8192).unwrap();
        decoder.push(&stream(&[vec![], vec![], vec![]])).unwrap();
        assert_eq!(decoder.take().unwrap().unwrap().num_rows(), 3);
    }

    #[test]
    fn an_unfit_value_names_its_column() {
        let mut decoder = Decoder::new(&scan(&[Wire::Date]), 8192).unwrap();
        let error = decoder.push(&stream(&[vec![Some(&i32::MAX.to_be_bytes())]])).unwrap_err();
        assert_eq!(error.code, "VALUE_NOT_REPRESENTABLE");
        assert!(error.message.contains("\"c0\"") && error.message.contains("infinite date"));
    }

    #[test]
    fn lists_keep_their_nulls() {
        let wire = Wire::List(Box::new(Wire::Int32));
        assert!(matches!(wire.data_type(), DataType::List(_)));
        let item = |number: i32| [4i32.to_be_bytes(), number.to_be_bytes()].concat();
        let head = |n: i32| [1, 1, 23, n, 1].map(i32::to_be_bytes).concat();
        let filled = [head(2), item(5), (-1i32).to_be_bytes().to_vec()].concat();
        let empty = [0, 0, 23].map(i32::to_be_bytes).concat();
        let mut decoder = Decoder::new(&scan(&[wire]), 8192).unwrap();
        let rows = [vec![Some(&filled[..])], vec![None], vec![Some(&empty[..])]];
        decoder.push(&stream(&rows)).unwrap();
        let batch = decoder.take().unwrap().unwrap();
        let shown = arrow::util::pretty::pretty_format_batches(&[batch]).unwrap().to_string();
        assert!(shown.contains("| [5, ] |") && shown.contains("| []    |"), "{shown}");
    }
}
