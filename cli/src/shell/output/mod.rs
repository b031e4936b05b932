//! Rows into text or files, batch by batch.
//!
//! [`table`] holds some rows to measure its columns; the other formats write each batch as it
//! comes. To add a format: one variant of [`Format`], one type that is a [`RowWriter`], one arm in
//! [`Target::writer`].

mod files;
mod table;
mod text;
mod vertical;

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::Format;

/// The most rows that a table at the keyboard shows.
const PREVIEW_ROWS: usize = 200;

/// What a finished writer knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) n_rows: u64,
    pub(super) n_hidden: u64,
}

/// Lets the first rows of a result through, or all of them, and counts the others.
#[derive(Debug)]
struct Preview {
    rows_left: Option<usize>,
    n_hidden: u64,
}

impl Preview {
    fn new(rows_max: Option<usize>) -> Self {
        Self { rows_left: rows_max, n_hidden: 0 }
    }

    fn is_full(&self) -> bool {
        self.rows_left == Some(0)
    }

    fn shown(&mut self, batch: &RecordBatch) -> RecordBatch {
        let n_rows = batch.num_rows();
        let n_shown = self.rows_left.map_or(n_rows, |left| left.min(n_rows));
        self.n_hidden += (n_rows - n_shown) as u64;
        self.rows_left = self.rows_left.map(|left| left - n_shown);
        batch.slice(0, n_shown)
    }
}

/// Writes the rows of one result.
pub(super) trait RowWriter {
    /// Writes the batch, or holds it for a while.
    fn write(&mut self, batch: &RecordBatch) -> anyhow::Result<()>;
    /// Writes what is held and returns what there was.
    fn finish(self: Box<Self>) -> anyhow::Result<Summary>;
}

/// A writer that counts.
pub(super) struct Counted {
    writer: Box<dyn RowWriter>,
    is_shown: bool,
    n_rows: u64,
}

impl Counted {
    /// Whether the rows appear on a terminal, where a progress line would be in their way.
    pub(super) fn shows_rows_at_once(&self) -> bool {
        self.is_shown
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> anyhow::Result<()> {
        self.n_rows += batch.num_rows() as u64;
        self.writer.write(batch)
    }

    pub(super) fn finish(self) -> anyhow::Result<Summary> {
        let summary = self.writer.finish()?;
        Ok(Summary { n_rows: self.n_rows, ..summary })
    }
}

/// Where rows go, and in which format.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) format: Format,
    file: Option<(PathBuf, File)>,
    /// Whether somebody sits before it, who wants to see the first rows and not a million.
    pub(super) is_interactive: bool,
    n_results: usize,
}

impl Target {
    /// Returns the target; a file is created now, and emptied if it was there.
    pub(super) fn new(format: Format, output: Option<&Path>) -> anyhow::Result<Self> {
        let create = |path: &Path| -> anyhow::Result<(PathBuf, File)> {
            let file = File::create(path);
            let file = file.with_context(|| format!("cannot write to {}", path.display()))?;
            Ok((path.to_owned(), file))
        };
        let file = output.map(create).transpose()?;
        Ok(Self { format, file, is_interactive: false, n_results: 0 })
    }

    /// Whether rows are written for people to read, not for programs.
    pub(super) fn is_for_people(&self) -> bool {
        matches!(self.format, Format::Table | Format::Vertical) && self.file.is_none()
    }

    /// Returns a writer for the next result.
    pub(super) fn writer(&mut self, schema: &SchemaRef) -> anyhow::Result<Counted> {
        self.n_results += 1;
        let is_terminal = self.file.is_none() && io::stdout().is_terminal();
        let out = self.open()?;
        let is_preview = self.is_interactive && self.file.is_none();
        let preview = Preview::new(is_preview.then_some(PREVIEW_ROWS));
        let writer: Box<dyn RowWriter> = match self.format {
            Format::Table => Box::new(table::TableWriter::new(out, schema, preview)),
            Format::Vertical => Box::new(vertical::VerticalWriter::new(out, preview)),
            Format::Csv => Box::new(files::CsvWriter::new(out, schema)?),
            Format::Json => Box::new(files::JsonWriter::new(out)),
            Format::Parquet if is_terminal => {
                bail!("parquet is not for a terminal: name a file with --output")
            }
            Format::Parquet if self.n_results > 1 => bail!("a parquet file holds one result"),
            Format::Parquet => Box::new(files::ParquetWriter::new(out, schema)?),
        };
        // A table says nothing before it has measured its first rows.
        let is_shown = is_terminal && !(self.format == Format::Table && is_preview);
        Ok(Counted { writer, is_shown, n_rows: 0 })
    }

    fn open(&self) -> anyhow::Result<Box<dyn Write + Send>> {
        match &self.file {
            None => Ok(Box::new(io::BufWriter::new(io::stdout()))),
            Some((path, file)) => {
                let file = file.try_clone();
                let file = file.with_context(|| format!("cannot write to {}", path.display()))?;
                Ok(Box::new(io::BufWriter::new(file)))
            }
        }
    }
}

/// Whether the error says that the reader of a pipe has left.
pub(super) fn is_reader_gone(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
            || cause.to_string().contains("Broken pipe")
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int32Array, ListArray, StringArray};
    use arrow::datatypes::Int32Type;

    use super::*;

    fn batch() -> RecordBatch {
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>([
            Some(vec![Some(1), None]),
            None,
            Some(vec![]),
        ]);
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("id", Arc::new(Int32Array::from(vec![Some(1), None, Some(30)]))),
            ("name", Arc::new(StringArray::from(vec!["a,b", "", "x\ny"]))),
            ("list", Arc::new(list)),
        ];
        RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().map(|(name, column)| (name, column, true)),
        )
        .unwrap()
    }

    fn written(format: Format) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let mut target = Target::new(format, Some(&path)).unwrap();
        let mut writer = target.writer(&batch().schema()).unwrap();
        writer.write(&batch()).unwrap();
        assert_eq!(writer.finish().unwrap(), Summary { n_rows: 3, n_hidden: 0 });
        std::fs::read_to_string(&path).unwrap()
    }

    #[test]
    fn each_text_format_writes_all_values() {
        assert_eq!(
            written(Format::Table),
            "  id  | name | list  \n\
             ------+------+-------\n\
             \x20   1 | a,b  | [1, ] \n\
             \x20NULL |      | NULL  \n\
             \x20  30 | x    | []    \n\
             \x20     | y    |       \n"
        );
        assert_eq!(written(Format::Csv), "id,name,list\n1,\"a,b\",\"[1, ]\"\n,,\n30,\"x\ny\",[]\n");
        assert_eq!(
            written(Format::Json),
            "{\"id\":1,\"name\":\"a,b\",\"list\":[1,null]}\n{\"id\":null,\"name\":\"\",\"list\":null}\n\
             {\"id\":30,\"name\":\"x\\ny\",\"list\":[]}\n"
        );
        assert_eq!(
            written(Format::Vertical),
            "-[ row 1 ]-\nid   | 1\nname | a,b\nlist | [1, ]\n\
             -[ row 2 ]-\nid   | NULL\nname | \nlist | NULL\n\
             -[ row 3 ]-\nid   | 30\nname | x\n     | y\nlist | []\n"
        );
    }

    #[test]
    fn parquet_is_read_back_and_holds_one_result() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.parquet");
        let mut target = Target::new(Format::Parquet, Some(&path)).unwrap();
        let mut writer = target.writer(&batch().schema()).unwrap();
        writer.write(&batch()).unwrap();
        writer.finish().unwrap();
        let file = File::open(&path).unwrap();
        let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(file, 1024);
        let read: Vec<RecordBatch> = reader.unwrap().map(Result::unwrap).collect();
        assert_eq!(read, vec![batch()]);
        assert!(target.writer(&batch().schema()).is_err());
    }

    #[test]
    fn a_preview_counts_what_it_does_not_show() {
        let mut shown = Vec::new();
        let mut table =
            Box::new(table::TableWriter::new(&mut shown, &batch().schema(), Preview::new(Some(2))));
        table.write(&batch()).unwrap();
        table.write(&batch()).unwrap();
        assert_eq!(table.finish().unwrap().n_hidden, 4);
        assert_eq!(String::from_utf8(shown).unwrap().lines().count(), 4);
    }
}
