//! What a SQLite file says of a table: rows and distinct values where SQLite's own `ANALYZE` ran, else no more rows
//! than there are row ids, and than fit into the file. Everything here blocks, and nothing walks a table.

use std::collections::BTreeMap;

use meshwork_engine::Result;
use meshwork_engine::statistics::{ColumnStatistics, TableStatistics};
use rusqlite::{Connection, OptionalExtension};

use super::file::File;

/// The least that a row takes in a file: a header, a row id, one value.
const ROW_BYTES_MIN: f64 = 4.0;

/// Returns what the file says of a table; nothing of a view.
pub(super) fn of_table(file: &File, table: &str) -> Result<TableStatistics> {
    let connection = file.open()?;
    let ask = || match analysed(&connection, table)? {
        Some(known) => Ok(known),
        None => {
            Ok(TableStatistics { n_rows: rows_at_most(&connection, table)?, ..Default::default() })
        }
    };
    ask().map_err(|error: rusqlite::Error| {
        file.failed(&format!("asking for statistics of table \"{table}\""), &error)
    })
}

/// Returns what `ANALYZE` wrote, if it ran: for each index the rows of the table, and how many of them have the
/// same values in its first column, in its first two, ...
fn analysed(connection: &Connection, table: &str) -> rusqlite::Result<Option<TableStatistics>> {
    let has_table = connection
        .query_row("SELECT 1 FROM main.sqlite_schema WHERE name = 'sqlite_stat1'", [], |_| Ok(()))
        .optional()?;
    if has_table.is_none() {
        return Ok(None);
    }
    let mut statement = connection.prepare(
        "SELECT s.stat, (SELECT i.name FROM pragma_index_info(s.idx, 'main') i WHERE i.seqno = 0) \
         FROM main.sqlite_stat1 s WHERE s.tbl = ?1 COLLATE BINARY",
    )?;
    let mut rows = statement.query([table])?;
    let (mut n_rows, mut columns): (Option<f64>, BTreeMap<String, ColumnStatistics>) =
        Default::default();
    while let Some(row) = rows.next()? {
        let (said, column): (Option<String>, Option<String>) = (row.get(0)?, row.get(1)?);
        let said = said.unwrap_or_default();
        let mut numbers = said.split(' ').map_while(|number| number.parse::<f64>().ok());
        let Some(of_index) = numbers.next() else { continue };
        // A partial index has fewer rows than its table.
        n_rows = Some(n_rows.unwrap_or(0.0).max(of_index));
        if let (Some(column), Some(same)) = (column, numbers.next().filter(|same| *same > 0.0)) {
            let known = columns.entry(column).or_default();
            known.n_distinct = Some(known.n_distinct.unwrap_or(0.0).max(of_index / same));
        }
    }
    Ok(n_rows.map(|n_rows| TableStatistics {
        n_rows: Some(n_rows),
        columns,
        ..TableStatistics::default()
    }))
}

/// The greatest row id is found without reading rows. Tables without row ids, and virtual ones, say nothing.
fn rows_at_most(connection: &Connection, table: &str) -> rusqlite::Result<Option<f64>> {
    let is_plain: Option<bool> = connection
        .query_row(
            "SELECT type = 'table' AND NOT wr FROM pragma_table_list \
             WHERE schema = 'main' AND name = ?1 COLLATE BINARY",
            [table],
            |row| row.get(0),
        )
        .optional()?;
    if is_plain != Some(true) {
        return Ok(None);
    }
    let name = table.replace('`', "``");
    let ids = format!(
        "SELECT (SELECT min(rowid) FROM main.`{name}`), (SELECT max(rowid) FROM main.`{name}`)"
    );
    let (least, greatest): (Option<i64>, Option<i64>) =
        connection.query_row(&ids, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let bytes: i64 = connection.query_row(
        "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size",
        [],
        |row| row.get(0),
    )?;
    let n_ids =
        least.zip(greatest).map_or(0.0, |(least, greatest)| greatest as f64 - least as f64 + 1.0);
    Ok(Some(n_ids.min(bytes as f64 / ROW_BYTES_MIN)))
}
