//! Aligned columns for people.
//!
//! Widths are measured on the first rows; later rows that are wider push their line out, and
//! nothing is cut. At the keyboard only the first rows are shown, at once, and the others counted.

use std::io::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::{Preview, RowWriter, Summary, text};

/// The rows that widths are measured on.
const MEASURED_ROWS: usize = 1000;

pub(super) struct TableWriter<W> {
    out: W,
    columns: Vec<Column>,
    held: Vec<Vec<String>>,
    is_begun: bool,
    preview: Preview,
}

struct Column {
    name: String,
    width: usize,
    is_number: bool,
}

impl<W: Write> TableWriter<W> {
    /// Returns a writer that shows what the preview lets through.
    pub(super) fn new(out: W, schema: &SchemaRef, preview: Preview) -> Self {
        let columns = schema.fields().iter().map(|field| Column {
            name: field.name().clone(),
            width: length(field.name()),
            is_number: field.data_type().is_numeric(),
        });
        let columns = columns.collect();
        Self { out, columns, held: Vec::new(), is_begun: false, preview }
    }

    fn write_held(&mut self) -> std::io::Result<()> {
        if !self.is_begun {
            self.is_begun = true;
            for row in &self.held {
                for (column, cell) in self.columns.iter_mut().zip(row) {
                    column.width = column.width.max(length(cell));
                }
            }
            self.write_head()?;
        }
        for row in std::mem::take(&mut self.held) {
            self.write_row(&row)?;
        }
        self.out.flush()
    }

    fn write_head(&mut self) -> std::io::Result<()> {
        let head = |column: &Column| format!(" {} ", centred(&column.name, column.width));
        let rule = |column: &Column| "-".repeat(column.width + 2);
        let heads: Vec<String> = self.columns.iter().map(head).collect();
        let rules: Vec<String> = self.columns.iter().map(rule).collect();
        writeln!(self.out, "{}", heads.join("|"))?;
        writeln!(self.out, "{}", rules.join("+"))
    }

    /// A row takes as many lines as its longest cell; the shorter ones are blank below.
    fn write_row(&mut self, row: &[String]) -> std::io::Result<()> {
        let n_lines = row.iter().map(|cell| cell.split('\n').count()).max().unwrap_or(1);
        for line in 0..n_lines {
            let line_of =
                |cell: &'_ String| cell.split('\n').nth(line).unwrap_or_default().to_owned();
            let lines: Vec<String> = row.iter().map(line_of).collect();
            self.write_line(&lines)?;
        }
        Ok(())
    }

    fn write_line(&mut self, cells: &[String]) -> std::io::Result<()> {
        for (position, (column, cell)) in self.columns.iter().zip(cells).enumerate() {
            let separator = if position == 0 { "" } else { "|" };
            let blanks = " ".repeat(column.width.saturating_sub(length(cell)));
            match column.is_number {
                true => write!(self.out, "{separator} {blanks}{cell} ")?,
                false => write!(self.out, "{separator} {cell}{blanks} ")?,
            }
        }
        writeln!(self.out)
    }
}

impl<W: Write> RowWriter for TableWriter<W> {
    fn write(&mut self, batch: &RecordBatch) -> anyhow::Result<()> {
        let shown = self.preview.shown(batch);
        if shown.num_rows() == 0 {
            return Ok(());
        }
        self.held.extend(text::cells(&shown)?);
        if self.is_begun || self.preview.is_full() || self.held.len() >= MEASURED_ROWS {
            self.write_held()?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> anyhow::Result<Summary> {
        if !self.is_begun || !self.held.is_empty() {
            self.write_held()?;
        }
        Ok(Summary { n_rows: 0, n_hidden: self.preview.n_hidden })
    }
}

/// Returns how many places the text's longest line takes; wide letters of some scripts are not known to be
/// wide.
fn length(text: &str) -> usize {
    text.split('\n').map(|line| line.chars().count()).max().unwrap_or(0)
}

fn centred(text: &str, width: usize) -> String {
    format!("{text:^width$}")
}
