//! Rows in binary, gathered into batches.
//!
//! ```text
//! row: u16 n columns | n x (i32 length or -1 | bytes)
//! ```

use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::{RecordBatch, RecordBatchOptions};
use meshwork_engine::remote::RemoteScan;
use meshwork_engine::{Error, Result};

use super::columns::Detail;
use super::configuration::Unrepresentable;
use super::protocol::Rows;
use super::values::{Rest, Unfit, Values};

/// A batch ends early when it holds that much: rows may be wide, and offsets in arrays are 32 bits.
const BATCH_BYTES_MAX: usize = 16 << 20;

/// Gathers the rows of one statement.
#[derive(Debug)]
pub(super) struct Decoder {
    schema: SchemaRef,
    names: Vec<String>,
    columns: Vec<Values>,
    /// What of the rows that are taken in was not read.
    rests: Vec<Rest>,
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
            columns.push(Values::new(&detail.wire, unrepresentable));
        }
        Ok(Self {
            schema: scan.output_schema(),
            names: output.into_iter().map(|column| column.name).collect(),
            columns,
            rests: Vec::new(),
            n_rows: 0,
            n_bytes: 0,
            rows_max: rows_max.max(1),
        })
    }

    /// Whether a batch should be taken before more is pushed.
    pub(super) fn is_full(&self) -> bool {
        self.n_rows >= self.rows_max || self.n_bytes >= BATCH_BYTES_MAX
    }

    /// How many rows there is room for.
    pub(super) fn n_rows_missing(&self) -> usize {
        self.rows_max.saturating_sub(self.n_rows)
    }

    /// Takes in the next rows. After an error nothing can be taken any more.
    pub(super) fn push(&mut self, rows: &Rows<'_>) -> Result<()> {
        self.rests.clear();
        for place in rows.places {
            let row = rows.bytes.get(place.clone()).unwrap_or_default();
            let Some((n_columns, _)) = row.split_first_chunk::<2>() else {
                return Err(broken("breaks off"));
            };
            if usize::from(u16::from_be_bytes(*n_columns)) != self.columns.len() {
                return Err(broken("has another number of columns"));
            }
            self.n_bytes += row.len();
            self.rests.push(Rest { begin: place.start + n_columns.len(), end: place.end });
        }
        for (index, column) in self.columns.iter_mut().enumerate() {
            if let Err(unfit) = column.append_all(rows.bytes, &mut self.rests) {
                return Err(self.unfit(index, unfit));
            }
        }
        if self.rests.iter().any(|rest| rest.begin != rest.end) {
            return Err(broken("is longer than its values"));
        }
        self.n_rows += rows.places.len();
        Ok(())
    }

    /// Returns the rows gathered so far, `None` if there are none.
    pub(super) fn take(&mut self) -> Result<Option<RecordBatch>> {
        if self.n_rows == 0 {
            return Ok(None);
        }
        let mut arrays = Vec::with_capacity(self.columns.len());
        for (index, column) in self.columns.iter_mut().enumerate() {
            match column.finish() {
                Ok(array) => arrays.push(array),
                Err(unfit) => return Err(self.unfit(index, unfit)),
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(self.n_rows));
        (self.n_rows, self.n_bytes) = (0, 0);
        let schema = Arc::clone(&self.schema);
        Ok(Some(RecordBatch::try_new_with_options(schema, arrays, &options)?))
    }

    fn unfit(&self, index: usize, unfit: Unfit) -> Error {
        let column = self.names.get(index).map_or("", String::as_str);
        match unfit {
            Unfit::Unrepresentable(what) => Error::source(
                "VALUE_NOT_REPRESENTABLE",
                format!("column \"{column}\" holds {what}, for which there is no value here"),
            )
            .with_hint("Set unrepresentable = null in the catalog to read such values as NULL."),
            Unfit::Short => broken("breaks off"),
            Unfit::Malformed(what) => Error::source(
                "SOURCE_PROTOCOL",
                format!("column \"{column}\" arrived as something else than {what}"),
            ),
        }
    }
}

fn broken(how: &str) -> Error {
    Error::source("SOURCE_PROTOCOL", format!("a row of PostgreSQL {how}")).retryable()
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

    fn row(fields: &[Option<&[u8]>]) -> Vec<u8> {
        let mut bytes = u16::try_from(fields.len()).unwrap().to_be_bytes().to_vec();
        for field in fields {
            let length = field.map_or(-1, |field| i32::try_from(field.len()).unwrap());
            bytes.extend(length.to_be_bytes());
            bytes.extend(field.unwrap_or_default());
        }
        bytes
    }

    /// Takes in rows that have arrived together.
    fn push(decoder: &mut Decoder, rows: &[Vec<u8>]) -> Result<()> {
        let bytes = rows.concat();
        let mut places = Vec::new();
        let mut begin = 0;
        for row in rows {
            places.push(begin..begin + row.len());
            begin += row.len();
        }
        decoder.push(&Rows { bytes: &bytes, places: &places })
    }

    #[test]
    fn rows_become_a_batch() {
        let mut decoder = Decoder::new(&scan(&[Wire::Int32, Wire::Text]), 8192).unwrap();
        for fields in
            [[Some(&[0, 0, 0, 7][..]), Some(b"seven")], [None, Some(b"")], [Some(&[0xFF; 4]), None]]
        {
            push(&mut decoder, &[row(&fields)]).unwrap();
        }
        let batch = decoder.take().unwrap().unwrap();
        let shown = arrow::util::pretty::pretty_format_batches(&[batch]).unwrap().to_string();
        assert_eq!(
            shown.lines().filter(|line| line.starts_with('|')).collect::<Vec<_>>(),
            ["| c0 | c1    |", "| 7  | seven |", "|    |       |", "| -1 |       |"]
        );
    }

    #[test]
    fn a_row_that_breaks_off_is_an_error() {
        let whole = row(&[Some(&[0, 0, 0, 7]), Some(b"seven")]);
        for kept in 0..whole.len() {
            let mut decoder = Decoder::new(&scan(&[Wire::Int32, Wire::Text]), 8192).unwrap();
            assert!(push(&mut decoder, &[whole[..kept].to_vec()]).is_err(), "{kept}");
        }
    }

    #[test]
    fn rows_without_columns_are_counted() {
        let mut decoder = Decoder::new(&scan(&[]), 8192).unwrap();
        for _ in 0..3 {
            push(&mut decoder, &[row(&[])]).unwrap();
        }
        assert_eq!(decoder.take().unwrap().unwrap().num_rows(), 3);
    }

    #[test]
    fn an_unfit_value_names_its_column() {
        let mut decoder = Decoder::new(&scan(&[Wire::Date]), 8192).unwrap();
        let error = push(&mut decoder, &[row(&[Some(&i32::MAX.to_be_bytes())])]).unwrap_err();
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
        for field in [Some(&filled[..]), None, Some(&empty[..])] {
            push(&mut decoder, &[row(&[field])]).unwrap();
        }
        let batch = decoder.take().unwrap().unwrap();
        let shown = arrow::util::pretty::pretty_format_batches(&[batch]).unwrap().to_string();
        assert!(shown.contains("| [5, ] |") && shown.contains("| []    |"), "{shown}");
    }
}
