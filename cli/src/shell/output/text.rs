//! Values as text for people, for table and vertical.

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};

/// Returns the text of each value, row by row, with control characters written out; a text
/// of several lines, such as a plan, keeps its lines.
pub(super) fn cells(batch: &RecordBatch) -> Result<Vec<Vec<String>>, ArrowError> {
    let options = FormatOptions::new().with_null("");
    let columns = batch.columns().iter();
    let formatters = columns
        .map(|column| ArrayFormatter::try_new(column.as_ref(), &options))
        .collect::<Result<Vec<_>, _>>()?;
    // A column of the type NULL has no buffer that says so.
    let nulls: Vec<_> = batch.columns().iter().map(|column| column.logical_nulls()).collect();
    let mut rows = Vec::with_capacity(batch.num_rows());
    for row in 0..batch.num_rows() {
        let mut cells = Vec::with_capacity(formatters.len());
        for (formatter, nulls) in formatters.iter().zip(&nulls) {
            cells.push(match nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                true => "NULL".to_owned(),
                false => visible(&formatter.value(row).try_to_string()?),
            });
        }
        rows.push(cells);
    }
    Ok(rows)
}

/// Returns the text without anything that would move the cursor, but for ends of lines.
fn visible(text: &str) -> String {
    let escape = |letter: char| letter.escape_default().collect::<String>();
    text.chars()
        .map(|letter| match letter.is_control() && letter != '\n' {
            true => escape(letter),
            false => letter.to_string(),
        })
        .collect()
}
