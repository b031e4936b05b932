//! What a kind of source says about itself: how a table is made there, and what its limits are.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use async_trait::async_trait;

use crate::doors::Doors;
use crate::written;

/// The name of the catalog under test.
pub(crate) const CATALOG: &str = "source";

/// The properties of a catalog.
pub(crate) type Properties = BTreeMap<String, String>;

/// A kind of source, with a real one behind it.
#[async_trait]
pub(crate) trait Source: Send + Sync {
    /// The kind, as `USING` names it.
    fn kind(&self) -> &'static str;

    /// The properties of the catalog under test.
    fn properties(&self) -> Properties;

    /// The schema in which [`Source::make`] makes tables.
    fn schema(&self) -> &'static str;

    /// Every type that the connector declares, with values up to its bounds.
    fn types(&self) -> Vec<Type>;

    /// A type of the source that keeps a kind of value.
    fn declared(&self, kind: Kind) -> &'static str {
        written::declared(kind)
    }

    /// A value as the source writes it.
    fn literal(&self, value: &Value) -> String {
        sql_literal(value, text_literal)
    }

    /// What the source can be asked to do, and names that it cannot have.
    fn limits(&self) -> Limits;

    /// Whether requests are statements of SQL, which show what is asked of each type.
    fn speaks_sql(&self) -> bool {
        false
    }

    /// The properties of the catalog if it may be written; `None` where nothing is.
    fn writable(&self) -> Option<Properties> {
        None
    }

    /// What else a catalog may say of values without a counterpart: the words of the page, and all properties.
    fn policies(&self) -> Vec<(&'static str, Properties)> {
        Vec::new()
    }

    /// Values without a counterpart, and what becomes of each.
    fn specials(&self) -> Vec<Special> {
        Vec::new()
    }

    /// Types beside those of [`Source::types`] that a column can have.
    async fn other_types(&mut self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// A column as the source itself declares it and writes its values, by `id`; `None` where nobody but Meshwork can ask.
    async fn held(&mut self, _table: &str, _column: &str) -> Result<Option<Held>> {
        Ok(None)
    }

    /// Has the source find out what it says of a table's rows.
    async fn analyze(&mut self, _table: &str) -> Result<()> {
        Ok(())
    }

    /// Makes a table `large` with an `id` that is worth more than one split, if there is such a thing.
    async fn large(&mut self) -> Result<bool> {
        Ok(false)
    }

    /// Makes a table as others make it, where they can; otherwise through Meshwork.
    async fn make(&mut self, doors: &mut Doors, table: &Table) -> Result<()> {
        written::make(doors, table).await
    }

    /// Returns what stands behind `FROM` for the table of [`crate::suite::standard`].
    async fn standard(&mut self, doors: &mut Doors) -> Result<String> {
        let table = crate::suite::standard(self);
        self.make(doors, &table).await?;
        Ok(name_of(self.schema(), &table.name))
    }

    /// Queries of the standard table, which stands for `{t}`, and what `EXPLAIN` has to say of their requests.
    fn requests(&self) -> Vec<(&'static str, &'static str)>;

    /// Makes relations that are read for as long as anybody wants.
    async fn endless(&mut self, doors: &mut Doors) -> Result<Vec<String>>;

    /// Whether the source, asked in its own way, is being read by the processes `ids`; `None` where
    /// nobody but Meshwork knows.
    async fn is_read(&self, _ids: &[u32]) -> Result<Option<bool>> {
        Ok(None)
    }

    /// A catalog whose source is not there; `Err` says why there can be no such thing.
    fn away(&self) -> Result<Away, &'static str>;

    /// Makes tables that cannot be read.
    async fn broken(&mut self, doors: &mut Doors) -> Result<Vec<Broken>>;
}

/// A kind of value that the cases need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Integer,
    Text,
    /// Twelve digits, two of them behind the point.
    Decimal,
    Double,
    Truth,
    Date,
    /// Microseconds, without a zone.
    Moment,
}

/// A value, whatever the source.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Null,
    Integer(i64),
    Text(String),
    Decimal(&'static str),
    Double(&'static str),
    Truth(bool),
    Date(&'static str),
    Moment(&'static str),
}

/// A table in the source's own words.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) columns: Vec<Column>,
    /// Literals; `None` is NULL.
    pub(crate) rows: Vec<Vec<Option<String>>>,
}

#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) declared: String,
}

/// A type of the source, and what becomes of it.
#[derive(Debug, Clone)]
pub(crate) struct Type {
    pub(crate) declared: &'static str,
    /// The type as `SHOW COLUMNS` names it.
    pub(crate) shown: &'static str,
    /// Literals of the source, and how Meshwork shows them.
    pub(crate) values: Vec<(&'static str, &'static str)>,
}

/// A value that its column's type has not here.
#[derive(Debug, Clone)]
pub(crate) struct Special {
    pub(crate) declared: &'static str,
    pub(crate) value: &'static str,
    /// What is read, or the code of the error: by default, and under each of [`Source::policies`].
    pub(crate) becomes: Vec<&'static str>,
}

/// Returns a value without a counterpart.
pub(crate) fn special(
    declared: &'static str,
    value: &'static str,
    becomes: &[&'static str],
) -> Special {
    Special { declared, value, becomes: becomes.to_vec() }
}

/// A column, by the source's own account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) declared: String,
    /// Its values in the source's own words.
    pub(crate) values: Vec<String>,
}

/// Returns a type with its values.
pub(crate) fn of(
    declared: &'static str,
    shown: &'static str,
    values: &[(&'static str, &'static str)],
) -> Type {
    Type { declared, shown, values: values.to_vec() }
}

/// What a source cannot do.
pub(crate) struct Limits {
    pub(crate) writes: Writes,
    /// Columns of the widest table that the suite makes.
    pub(crate) n_columns: usize,
    /// What tells in a request of `EXPLAIN` that it has a filter.
    pub(crate) pushed_marks: &'static [&'static str],
    /// Conditions of the suite that go to the source, at least.
    pub(crate) n_pushed_min: usize,
    /// Names of tables that the source cannot have, and the code that says so.
    pub(crate) names_refused: &'static [(&'static str, &'static str)],
}

/// Who can write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writes {
    /// Meshwork writes tables and rows.
    Yes,
    /// Nothing is written; tables are made by others.
    No,
    /// Nothing is written, by nobody: the tables are what they are.
    Never,
}

/// A source that is not there.
pub(crate) struct Away {
    pub(crate) properties: Properties,
    pub(crate) code: &'static str,
}

/// A table that cannot be read, and what is said of it.
pub(crate) struct Broken {
    pub(crate) relation: String,
    pub(crate) code: &'static str,
    /// What the message names.
    pub(crate) names: String,
}

/// Returns an identifier that means exactly this name.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Returns the whole name of a table of the catalog under test.
pub(crate) fn name_of(schema: &str, table: &str) -> String {
    name_in(CATALOG, schema, table)
}

/// Returns the whole name of a table of any catalog.
pub(crate) fn name_in(catalog: &str, schema: &str, table: &str) -> String {
    format!("{catalog}.{}.{}", quoted(schema), quoted(table))
}

/// Returns a literal of SQL in which only a quote is written twice.
pub(crate) fn text_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Returns the value of standard SQL, but for text, which each source quotes in its own way.
pub(crate) fn sql_literal(value: &Value, text: fn(&str) -> String) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Integer(number) => number.to_string(),
        Value::Text(value) => text(value),
        Value::Decimal(number) => (*number).to_owned(),
        Value::Truth(truth) => truth.to_string(),
        // A text becomes the column's type; a bare 1e300 is a decimal to some.
        Value::Double(value) | Value::Date(value) | Value::Moment(value) => format!("'{value}'"),
    }
}

/// Returns the statements that make and fill a table, with names as `quote` writes them.
pub(crate) fn statements(schema: &str, table: &Table, quote: fn(&str) -> String) -> Vec<String> {
    let name = format!("{}.{}", quote(schema), quote(&table.name));
    let column = |column: &Column| format!("{} {}", quote(&column.name), column.declared);
    let columns: Vec<String> = table.columns.iter().map(column).collect();
    let mut statements = vec![format!("CREATE TABLE {name} ({})", columns.join(", "))];
    let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "NULL".to_owned());
    let row = |row: &Vec<Option<String>>| {
        format!("({})", row.iter().map(value).collect::<Vec<_>>().join(", "))
    };
    let rows: Vec<String> = table.rows.iter().map(row).collect();
    if !rows.is_empty() {
        statements.push(format!("INSERT INTO {name} VALUES {}", rows.join(", ")));
    }
    statements
}

/// Whether one of the processes has the file open: a reader that has ended has closed it.
pub(crate) fn is_open(path: &Path, ids: &[u32]) -> Result<bool> {
    let path = std::fs::canonicalize(path)?;
    for id in ids {
        for entry in std::fs::read_dir(format!("/proc/{id}/fd"))? {
            // A descriptor may be closed while we look.
            if std::fs::read_link(entry?.path()).is_ok_and(|target| target == path) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
