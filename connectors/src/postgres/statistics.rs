//! What PostgreSQL knows of a table: rows by its size, values by what the server's own `ANALYZE` found.
//!
//! The server counts rows only now and then, so its count is scaled by the present size, as its planner does.
//! Each partition is asked for, and they are put together where nobody analysed the whole. Columns that the
//! user may not read are left out by the server. Nothing here can fail on a value: an error would end the
//! transaction that the query's snapshot lives in, so arrays are read here and not cast there.

use std::collections::BTreeMap;

use meshwork_engine::Result;
use meshwork_engine::remote::{Literal, RemoteColumn, RemoteScan};
use meshwork_engine::statistics::{
    ColumnStatistics, Common, TableStatistics, combined, equal_parts, in_order, literal_of_text,
};
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::columns::{Detail, Meaning, Sent};
use super::listing::get;
use super::snapshot::Snapshot;
use super::wire::Wire;

/// Pages that the server expects of a small table that was never analysed.
const PAGES_UNKNOWN: f64 = 10.0;
/// Bytes of a page that hold no rows, and bytes of a row that hold no values.
const PAGE_HEADER_BYTES: f64 = 24.0;
const ROW_HEADER_BYTES: f64 = 28.0;

/// The table and all that inherits from it: partitions, and theirs. The last is what a row of one that was never
/// analysed may need, by its types; 32 bytes where the type does not say.
const TABLES: &str = "WITH RECURSIVE relation AS ( \
       SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
       WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p', 'm', 'f') \
       UNION SELECT i.inhrelid FROM relation r JOIN pg_catalog.pg_inherits i ON i.inhparent = r.oid \
     ) \
     SELECT n.nspname::text, c.relname::text, c.relkind::text, c.relhassubclass, c.reltuples::float8, \
       c.relpages::float8, COALESCE(pg_catalog.pg_relation_size(c.oid, 'main'), 0)::float8, \
       current_setting('block_size')::float8, \
       COALESCE((SELECT sum(COALESCE(NULLIF(a.attlen, -1), 32)) FROM pg_catalog.pg_attribute a \
         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), 0)::float8 \
     FROM relation r JOIN pg_catalog.pg_class c ON c.oid = r.oid \
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace";

/// What is known of the columns of some tables. Names stand alone on their side: only then does the server look
/// them up, and not through all that it knows.
const COLUMNS: &str = "SELECT s.schemaname::text, s.tablename::text, s.attname::text, s.inherited, \
       s.null_frac::float8, s.avg_width::float8, s.n_distinct::float8, s.most_common_vals::text, \
       s.most_common_freqs::float8[], s.histogram_bounds::text \
     FROM pg_catalog.pg_stats s \
     WHERE s.schemaname = ANY($1::name[]) AND s.tablename = ANY($2::name[])";

/// Returns what the server knows of a table; nothing of a view.
pub(super) async fn of_table(snapshot: &Snapshot, whole: &RemoteScan) -> Result<TableStatistics> {
    let names: [(&(dyn ToSql + Sync), Type); 2] =
        [(&whole.schema, Type::TEXT), (&whole.table, Type::TEXT)];
    let (tables, of_whole) = futures::try_join!(
        snapshot.lookup(TABLES, &names),
        columns(snapshot, vec![whole.schema.as_str()], vec![whole.table.as_str()])
    )?;
    let mut parts: BTreeMap<Name, Part> = BTreeMap::new();
    for row in &tables {
        parts.insert((get(row, 0)?, get(row, 1)?), Part::of(row)?);
    }
    if parts.len() > 1 {
        parts.values_mut().for_each(Part::count_none_if_empty);
    }
    let others: Vec<&Name> = parts
        .keys()
        .filter(|(schema, table)| *schema != whole.schema || *table != whole.table)
        .collect();
    let of_others = match others.is_empty() {
        true => Vec::new(),
        false => {
            let schemas = others.iter().map(|(schema, _)| schema.as_str()).collect();
            let tables = others.iter().map(|(_, table)| table.as_str()).collect();
            columns(snapshot, schemas, tables).await?
        }
    };
    let mut inherited = TableStatistics::default();
    for row in of_whole.iter().chain(&of_others) {
        let (table, name): (Name, String) = ((get(row, 0)?, get(row, 1)?), get(row, 2)?);
        let column = whole.columns.iter().find(|column| column.name == name);
        let (Some(part), Some(column)) = (parts.get_mut(&table), column) else { continue };
        let of_all: bool = get(row, 3)?;
        if !of_all {
            let known = read(row, column, part.statistics.n_rows)?;
            part.statistics.columns.insert(name, known);
        } else if table.0 == whole.schema && table.1 == whole.table {
            // What the server found in a table and all of its partitions together.
            inherited.columns.insert(name, read(row, column, None)?);
        }
    }
    Ok(put_together(parts.into_values().collect(), inherited))
}

/// Schema and table.
type Name = (String, String);

async fn columns(snapshot: &Snapshot, schemas: Vec<&str>, tables: Vec<&str>) -> Result<Vec<Row>> {
    let names: [(&(dyn ToSql + Sync), Type); 2] =
        [(&schemas, Type::TEXT_ARRAY), (&tables, Type::TEXT_ARRAY)];
    snapshot.lookup(COLUMNS, &names).await
}

/// Sums the parts up; what the server says of all together stands before what follows from the parts.
fn put_together(parts: Vec<Part>, mut inherited: TableStatistics) -> TableStatistics {
    if parts.is_empty() {
        return TableStatistics::default();
    }
    let rows: Vec<TableStatistics> =
        parts.into_iter().filter(Part::has_rows).map(|part| part.statistics).collect();
    let all = match rows.as_slice() {
        [only] => only.clone(),
        several => combined(several),
    };
    for column in inherited.columns.values_mut() {
        column.n_distinct = counted(column.n_distinct, all.n_rows);
    }
    inherited.or(&all)
}

/// A table, or a partition of one.
#[derive(Debug)]
struct Part {
    kind: String,
    is_empty: bool,
    statistics: TableStatistics,
}

impl Part {
    fn of(row: &Row) -> Result<Self> {
        let kind: String = get(row, 2)?;
        let size = Size {
            has_parts: get(row, 3)?,
            rows_counted: get(row, 4)?,
            pages_counted: get(row, 5)?,
            bytes: get(row, 6)?,
            page_bytes: get(row, 7)?,
            row_bytes: get(row, 8)?,
        };
        let n_rows = match kind.as_str() {
            "r" | "m" => Some(size.n_rows()),
            // A foreign table has no pages here; 0 rows are those of one that nobody analysed.
            "f" => Some(size.rows_counted).filter(|rows| *rows > 0.0),
            _ => None,
        };
        let statistics = TableStatistics { n_rows, ..TableStatistics::default() };
        Ok(Self { is_empty: kind != "f" && size.bytes == 0.0, kind, statistics })
    }

    /// Partitions for values to come would else hide what is known of the others.
    fn count_none_if_empty(&mut self) {
        if self.is_empty {
            self.statistics.n_rows = Some(0.0);
        }
    }

    /// A partitioned table has none of its own.
    fn has_rows(&self) -> bool {
        self.kind != "p"
    }
}

/// What `pg_class` says of a table's size, and its size now.
#[derive(Debug, Clone, Copy)]
struct Size {
    has_parts: bool,
    rows_counted: f64,
    pages_counted: f64,
    bytes: f64,
    page_bytes: f64,
    row_bytes: f64,
}

impl Size {
    fn n_rows(&self) -> f64 {
        let pages = self.bytes / self.page_bytes;
        let was_counted = self.rows_counted > 0.0 && self.pages_counted > 0.0;
        if was_counted {
            return (self.rows_counted / self.pages_counted * pages).round();
        }
        // A new table is often asked while it is being filled.
        let is_new = self.rows_counted < 0.0 && !self.has_parts && pages < PAGES_UNKNOWN;
        let pages = if is_new { PAGES_UNKNOWN } else { pages };
        let per_page = (self.page_bytes - PAGE_HEADER_BYTES) / (self.row_bytes + ROW_HEADER_BYTES);
        (per_page.floor().max(1.0) * pages).round()
    }
}

fn read(row: &Row, column: &RemoteColumn, n_rows: Option<f64>) -> Result<ColumnStatistics> {
    let n_distinct: f64 = get(row, 6)?;
    let mut statistics = ColumnStatistics {
        null_fraction: Some(get(row, 4)?),
        average_bytes: Some(get(row, 5)?),
        // Without a number of rows it stays as the server says it.
        n_distinct: match n_rows {
            Some(_) => counted(Some(n_distinct), n_rows),
            None => Some(n_distinct),
        },
        ..ColumnStatistics::default()
    };
    let Some(values) = Values::of(column)? else { return Ok(statistics) };
    let common = values.read(get::<Option<String>>(row, 7)?);
    let fractions = get::<Option<Vec<f64>>>(row, 8)?.unwrap_or_default();
    let bounds = in_order(values.read(get::<Option<String>>(row, 9)?).into_iter().flatten());
    let known = in_order(common.iter().flatten().chain(&bounds).cloned());
    statistics.min = known.first().cloned();
    statistics.max = known.last().cloned();
    let common = common.into_iter().zip(fractions);
    statistics.common =
        common.filter_map(|(value, fraction)| Some(Common { value: value?, fraction })).collect();
    statistics.bounds = equal_parts(bounds);
    Ok(statistics)
}

/// The server writes a number of values that grows with the table as a negative fraction of its rows, and 0 where it
/// does not know.
fn counted(n_distinct: Option<f64>, n_rows: Option<f64>) -> Option<f64> {
    match n_distinct? {
        fraction if fraction < 0.0 => n_rows.map(|n_rows| (-fraction * n_rows).max(1.0)),
        0.0 => None,
        counted => Some(counted),
    }
}

/// How the values of a column are written in an array of them.
struct Values<'a> {
    column: &'a RemoteColumn,
}

impl<'a> Values<'a> {
    /// Arrays, and values that the engine sees in other words than the server, are of no use.
    fn of(column: &'a RemoteColumn) -> Result<Option<Self>> {
        let Detail { wire, sent, meaning, .. } = Detail::of(column)?;
        let is_readable = sent == Sent::Itself && !matches!(wire, Wire::List(_) | Wire::Bytes);
        Ok((is_readable && meaning != Meaning::Composite).then_some(Self { column }))
    }

    /// Returns the values of an array; `None` in place of one that has no place here, as an infinite date.
    fn read(&self, array: Option<String>) -> Vec<Option<Literal>> {
        let items = array.as_deref().map(items).unwrap_or_default();
        items.iter().map(|item| literal_of_text(item, &self.column.data_type)).collect()
    }
}

/// Returns the items of an array as the server writes it: `{a,"b,\"c"}`. Statistics hold no NULL.
fn items(array: &str) -> Vec<String> {
    let inside = array.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
    let Some(inside) = inside.filter(|inside| !inside.is_empty()) else { return Vec::new() };
    let mut items = vec![String::new()];
    let (mut is_quoted, mut letters) = (false, inside.chars());
    while let Some(letter) = letters.next() {
        let Some(item) = items.last_mut() else { break };
        match letter {
            '"' => is_quoted = !is_quoted,
            '\\' => item.extend(letters.next()),
            ',' if !is_quoted => items.push(String::new()),
            other => item.push(other),
        }
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_read_as_the_server_writes_them() {
        assert_eq!(items("{1,2,-3}"), ["1", "2", "-3"]);
        assert_eq!(items(r#"{a,"b,c","d\"e","f\\g",""}"#), ["a", "b,c", "d\"e", "f\\g", ""]);
        assert!(items("{}").is_empty());
    }

    #[test]
    fn rows_are_scaled_by_size() {
        let size = Size {
            has_parts: false,
            rows_counted: 1000.0,
            pages_counted: 10.0,
            bytes: 25.0 * 8192.0,
            page_bytes: 8192.0,
            row_bytes: 36.0,
        };
        assert_eq!(size.n_rows(), 2500.0);
        let never_counted = Size { rows_counted: -1.0, pages_counted: 0.0, ..size };
        assert_eq!(never_counted.n_rows(), 127.0 * 25.0);
        let new = Size { bytes: 0.0, ..never_counted };
        assert_eq!(new.n_rows(), 1270.0);
        let counted_when_empty = Size { rows_counted: 0.0, ..size };
        assert_eq!(counted_when_empty.n_rows(), 127.0 * 25.0);
        let emptied = Size { bytes: 0.0, ..size };
        assert_eq!(emptied.n_rows(), 0.0);
    }

    #[test]
    fn distinct_values_may_grow_with_the_table() {
        assert_eq!(counted(Some(-0.5), Some(200.0)), Some(100.0));
        assert_eq!(counted(Some(7.0), Some(200.0)), Some(7.0));
        assert_eq!(counted(Some(0.0), Some(200.0)), None);
        assert_eq!(counted(Some(-1.0), None), None);
    }
}
