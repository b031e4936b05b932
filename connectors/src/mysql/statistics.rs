//! What a server knows of a table: rows and index cardinalities everywhere, values where somebody analysed them.
//!
//! ```text
//! information_schema.TABLES            about how many rows
//! information_schema.STATISTICS        distinct values of columns that an index begins with
//! mysql.column_stats                   MariaDB: NULLs, ends, lengths, a histogram
//! information_schema.COLUMN_STATISTICS MySQL: histograms
//! the ends of an integer primary key   two probes of its index
//! ```
//! The last two tables are only asked where the user may see them: a statement that fails costs a connection.
//! [`super::histogram`] reads what they hold.

use std::sync::Arc;

use meshwork_engine::Result;
use meshwork_engine::remote::{RemoteColumn, RemoteScan};
use meshwork_engine::statistics::{ColumnStatistics, TableStatistics};

use super::client::Client;
use super::histogram::{self, Analysed};
use super::types::Detail;

/// Engines that find the ends of an index without walking it.
const ENGINES_WITH_ENDS: [&str; 3] = ["InnoDB", "MyISAM", "Aria"];

const TABLE: &str = "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_ROWS, ENGINE, \
     EXISTS (SELECT * FROM information_schema.TABLES \
       WHERE TABLE_SCHEMA = 'mysql' AND TABLE_NAME = 'column_stats'), \
     EXISTS (SELECT * FROM information_schema.TABLES \
       WHERE TABLE_SCHEMA = 'information_schema' AND TABLE_NAME = 'COLUMN_STATISTICS') \
     FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?";

const INDEXES: &str = "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, CARDINALITY \
     FROM information_schema.STATISTICS \
     WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? AND SEQ_IN_INDEX = 1 AND SUB_PART IS NULL";

const OF_MARIADB: &str = "SELECT db_name, table_name, column_name, min_value, max_value, \
     CAST(nulls_ratio AS DOUBLE), CAST(avg_length AS DOUBLE), CAST(avg_frequency AS DOUBLE), \
     CAST(IF(hist_type = 'JSON_HB', histogram, decode_histogram(hist_type, histogram)) AS CHAR) \
     FROM mysql.column_stats WHERE db_name = ? AND table_name = ?";

const OF_MYSQL: &str = "SELECT SCHEMA_NAME, TABLE_NAME, COLUMN_NAME, CAST(HISTOGRAM AS CHAR) \
     FROM information_schema.COLUMN_STATISTICS WHERE SCHEMA_NAME = ? AND TABLE_NAME = ?";

/// What the server says of the whole table.
struct Known {
    n_rows: Option<f64>,
    has_ends: bool,
    sees_mariadb: bool,
    sees_mysql: bool,
}

/// Returns what the server knows of a table; nothing of a view.
pub(super) async fn of_table(client: &Arc<Client>, whole: &RemoteScan) -> Result<TableStatistics> {
    let Some(known) = table(client, whole).await? else { return Ok(TableStatistics::default()) };
    let mut statistics = TableStatistics { n_rows: known.n_rows, ..TableStatistics::default() };
    let Some(n_rows) = known.n_rows else { return Ok(statistics) };
    for (column, n_distinct) in indexed(client, whole).await? {
        // Several indexes may begin with one column.
        let column = statistics.columns.entry(column).or_default();
        column.n_distinct = Some(column.n_distinct.unwrap_or(0.0).max(n_distinct.min(n_rows)));
    }
    let analysed = match known {
        Known { sees_mariadb: true, .. } => of_mariadb(client, whole, n_rows).await,
        Known { sees_mysql: true, .. } => of_mysql(client, whole, n_rows).await,
        Known { .. } => Ok(Vec::new()),
    };
    match analysed {
        Ok(analysed) => analysed.into_iter().for_each(|(name, column)| {
            let counted = statistics.columns.remove(&name).unwrap_or_default();
            statistics.columns.insert(name, put_together(column, &counted));
        }),
        // Seeing a table is not always reading it.
        Err(error) if error.code == "SOURCE_PERMISSION_DENIED" => {
            tracing::debug!(table = whole.display_name(), %error, "planned without histograms");
        }
        Err(error) => return Err(error),
    }
    for column in &whole.columns {
        if Detail::of(column).primary_key {
            let key = statistics.columns.entry(column.name.clone()).or_default();
            (key.n_distinct, key.null_fraction) = (Some(n_rows), Some(0.0));
        }
    }
    if known.has_ends {
        add_ends(client, whole, &mut statistics).await?;
    }
    Ok(statistics)
}

/// An index is counted anew as the table grows; somebody's analysis is as old as it is.
fn put_together(analysed: ColumnStatistics, counted: &ColumnStatistics) -> ColumnStatistics {
    ColumnStatistics { n_distinct: counted.n_distinct.or(analysed.n_distinct), ..analysed }
}

async fn table(client: &Arc<Client>, whole: &RemoteScan) -> Result<Option<Known>> {
    type Row = (String, String, Option<u64>, Option<String>, bool, bool);
    let names = vec![whole.schema.as_str().into(), whole.table.as_str().into()];
    let rows: Vec<Row> = client.ask("estimating rows", TABLE, names).await?;
    let exact = rows.into_iter().find(|row| row.0 == whole.schema && row.1 == whole.table);
    Ok(exact.map(|(_, _, n_rows, engine, sees_mariadb, sees_mysql)| Known {
        // Nobody has counted a table of 0 rows yet, or it is empty, which is not worth knowing.
        n_rows: n_rows.filter(|n_rows| *n_rows > 0).map(|n_rows| n_rows as f64),
        has_ends: engine.is_some_and(|engine| ENGINES_WITH_ENDS.contains(&engine.as_str())),
        sees_mariadb,
        sees_mysql,
    }))
}

async fn indexed(client: &Arc<Client>, whole: &RemoteScan) -> Result<Vec<(String, f64)>> {
    let names = vec![whole.schema.as_str().into(), whole.table.as_str().into()];
    let rows: Vec<(String, String, String, Option<u64>)> =
        client.ask("asking for indexes", INDEXES, names).await?;
    let known = rows.into_iter().filter(|row| row.0 == whole.schema && row.1 == whole.table);
    let counted = known.filter_map(|(_, _, column, n_distinct)| Some((column, n_distinct?)));
    Ok(counted.filter(|(_, n)| *n > 0).map(|(column, n)| (column, n as f64)).collect())
}

async fn of_mariadb(
    client: &Arc<Client>,
    whole: &RemoteScan,
    n_rows: f64,
) -> Result<Vec<(String, ColumnStatistics)>> {
    type Row = (
        String,
        String,
        String,
        Option<Vec<u8>>,
        Option<Vec<u8>>,
        Option<f64>,
        Option<f64>,
        Option<f64>,
        Option<String>,
    );
    let names = vec![whole.schema.as_str().into(), whole.table.as_str().into()];
    let rows: Vec<Row> = client.ask("asking for statistics", OF_MARIADB, names).await?;
    let text = |bytes: Option<Vec<u8>>| bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    let mut columns = Vec::new();
    for (schema, table, name, min, max, null_fraction, bytes, rows_per_value, histogram) in rows {
        let column = whole.columns.iter().find(|column| column.name == name);
        let (true, true, Some(column)) = (schema == whole.schema, table == whole.table, column)
        else {
            continue;
        };
        let analysed = Analysed {
            min: text(min),
            max: text(max),
            null_fraction,
            average_bytes: bytes,
            rows_per_value,
            histogram,
        };
        columns.push((name, histogram::of_mariadb(&analysed, &column.data_type, n_rows)));
    }
    Ok(columns)
}

async fn of_mysql(
    client: &Arc<Client>,
    whole: &RemoteScan,
    n_rows: f64,
) -> Result<Vec<(String, ColumnStatistics)>> {
    let names = vec![whole.schema.as_str().into(), whole.table.as_str().into()];
    let rows: Vec<(String, String, String, String)> =
        client.ask("asking for histograms", OF_MYSQL, names).await?;
    let mut columns = Vec::new();
    for (schema, table, name, text) in rows {
        let column = whole.columns.iter().find(|column| column.name == name);
        let (true, true, Some(column)) = (schema == whole.schema, table == whole.table, column)
        else {
            continue;
        };
        if let Some(known) = histogram::of_mysql(&text, &column.data_type, n_rows) {
            columns.push((name, known));
        }
    }
    Ok(columns)
}

async fn add_ends(
    client: &Arc<Client>,
    whole: &RemoteScan,
    statistics: &mut TableStatistics,
) -> Result<()> {
    let is_key =
        |column: &RemoteColumn| column.data_type.is_integer() && Detail::of(column).primary_key;
    let Some(key) = whole.columns.iter().position(is_key) else { return Ok(()) };
    let (Some(column), Some((least, greatest))) =
        (whole.columns.get(key), super::key_ends(client, whole, key).await?)
    else {
        return Ok(());
    };
    let known = statistics.columns.entry(column.name.clone()).or_default();
    known.min = histogram::integer(least);
    known.max = histogram::integer(greatest);
    Ok(())
}
