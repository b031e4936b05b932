//! One line for each value: for rows that are wider than the terminal.

use std::io::Write;

use arrow::array::RecordBatch;

use super::{Preview, RowWriter, Summary, text};

pub(super) struct VerticalWriter<W> {
    out: W,
    n_rows: u64,
    preview: Preview,
}

impl<W: Write> VerticalWriter<W> {
    pub(super) fn new(out: W, preview: Preview) -> Self {
        Self { out, n_rows: 0, preview }
    }
}

impl<W: Write> RowWriter for VerticalWriter<W> {
    fn write(&mut self, batch: &RecordBatch) -> anyhow::Result<()> {
        let shown = self.preview.shown(batch);
        let schema = batch.schema();
        let names: Vec<&String> = schema.fields().iter().map(|field| field.name()).collect();
        let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        for row in text::cells(&shown)? {
            self.n_rows += 1;
            writeln!(self.out, "-[ row {} ]-", self.n_rows)?;
            for (name, cell) in names.iter().zip(row) {
                let cell = cell.replace('\n', &format!("\n{:width$} | ", ""));
                writeln!(self.out, "{name:width$} | {cell}")?;
            }
        }
        Ok(self.out.flush()?)
    }

    fn finish(mut self: Box<Self>) -> anyhow::Result<Summary> {
        self.out.flush()?;
        Ok(Summary { n_rows: 0, n_hidden: self.preview.n_hidden })
    }
}
