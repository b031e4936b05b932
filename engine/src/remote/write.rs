//! Rows into remote tables: what a source is asked to write, and the sink that every `INSERT` into one ends in.
//!
//! All rows of one insertion go through one sink on the coordinator, into one transaction of the source: distributed or
//! not, a statement is there as a whole or not at all. A column that the statement does not name gets the source's own
//! default: the planner fills it with a NULL that carries [`OMITTED`], and the sink leaves it out.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::metadata::FieldMetadata;
use datafusion::common::{Result as DataFusionResult, ScalarValue};
use datafusion::datasource::sink::DataSink;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType};
use futures::StreamExt;

use super::logical::obstacle;
use super::{Literal, Reason, ReasonCode, Refusal, RemoteColumn, RemoteScan};
use crate::settings::QuerySettings;
use crate::{Error, Result};

/// Marks the value of a column that a statement does not name.
const OMITTED: &str = "meshwork.omitted";

/// Rows for one table: all of them, or none.
#[derive(Debug, Clone)]
pub struct Insertion {
    /// The table with all its columns.
    pub table: RemoteScan,
    /// Which of its columns the rows have, in the rows' order; the source fills the others.
    pub columns: Vec<usize>,
    /// Whether the table is made by the same step, and is not there if that fails.
    pub makes_table: bool,
}

impl Insertion {
    /// Returns the columns that the rows have, in order.
    pub fn given(&self) -> Vec<&RemoteColumn> {
        self.columns.iter().filter_map(|index| self.table.columns.get(*index)).collect()
    }
}

/// A change of rows that the source finds and changes by itself, in one statement.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The table; its `filters`, each agreed as exact, say which rows.
    pub table: RemoteScan,
    /// What becomes of them.
    pub kind: ChangeKind,
}

/// What becomes of rows that a source changes by itself.
#[derive(Debug, Clone, PartialEq)]
pub enum ChangeKind {
    /// They go.
    Delete,
    /// Columns, as indexes, get other values; never empty, each column once.
    Update(Vec<(usize, Assigned)>),
}

/// The new value of a column.
#[derive(Debug, Clone, PartialEq)]
pub enum Assigned {
    /// NULL.
    Null,
    /// A constant.
    Literal(Literal),
    /// What another column of the row holds, that is not changed itself.
    Column(usize),
}

/// Writes the tables of one catalog.
#[async_trait]
pub trait RowWriter: fmt::Debug + Send + Sync + 'static {
    /// Adds all rows of a stream, or none if it fails or is dropped; returns how many. Nobody sees a part of them.
    ///
    /// # Errors
    /// `User` with the code `ROWS_REFUSED` for rows that do not fit the table; `Source` when the source cannot be asked.
    async fn insert(
        &self,
        insertion: &Insertion,
        rows: SendableRecordBatchStream,
        settings: &QuerySettings,
    ) -> Result<u64>;

    /// Changes rows in one statement; returns how many were found.
    ///
    /// # Errors
    /// As for [`Self::insert`].
    async fn change(&self, change: &Change, settings: &QuerySettings) -> Result<u64>;
}

/// Returns what a column is to become.
///
/// # Errors
/// What in the value is more than a constant or a column that stays as it is.
fn assigned(
    value: &Expr,
    column: &RemoteColumn,
    columns: &[RemoteColumn],
    is_assigned: impl Fn(usize) -> bool,
) -> Result<Assigned, Reason> {
    // Whatever else there is, sources may compute otherwise.
    match value {
        Expr::Literal(scalar, _) if scalar.is_null() => Ok(Assigned::Null),
        Expr::Literal(scalar, _) => {
            Literal::from_scalar(scalar).map(Assigned::Literal).ok_or_else(|| {
                let message = format!("{scalar} of type {} has no counterpart", scalar.data_type());
                Reason::new(ReasonCode::Literal, message)
            })
        }
        Expr::Column(other) => {
            let index = columns.iter().position(|candidate| candidate.name == other.name);
            let same = index.filter(|index| {
                let other = columns.get(*index);
                let is_same = other.is_some_and(|other| other.remote_type == column.remote_type);
                is_same && !is_assigned(*index)
            });
            same.map(Assigned::Column).ok_or_else(|| {
                let message = format!(
                    "{other} is of another type than column {}, or is changed as well",
                    column.name
                );
                Reason::new(ReasonCode::Columns, message)
            })
        }
        // The planner casts what is computed to the column's type.
        Expr::Cast(cast) if !matches!(cast.expr.as_ref(), Expr::Column(_)) => {
            Err(obstacle(&cast.expr))
        }
        other => Err(obstacle(other)),
    }
}

/// Returns the columns that get new values, and those values. `SET` of a column to itself alone is kept.
pub(super) fn assignments(
    values: &[(String, Expr)],
    columns: &[RemoteColumn],
) -> Result<Vec<(usize, Assigned)>, Refusal> {
    let index = |name: &str| columns.iter().position(|column| column.name == name);
    let targets: Vec<usize> = values.iter().filter_map(|(name, _)| index(name)).collect();
    let mut assignments = Vec::with_capacity(values.len());
    for (name, value) in values {
        let Some((target, column)) = index(name).and_then(|i| Some((i, columns.get(i)?))) else {
            continue;
        };
        let is_other = |index: usize| index != target && targets.contains(&index);
        let value = assigned(value, column, columns, is_other)
            .map_err(|reason| Refusal { work: format!("SET {name} = {value}"), reason })?;
        assignments.push((target, value));
    }
    Ok(assignments)
}

/// Returns for each column the value that says that a statement does not name it.
pub(super) fn omitted_values(columns: &[RemoteColumn]) -> BTreeMap<String, Expr> {
    let mark = FieldMetadata::new(BTreeMap::from([(OMITTED.to_owned(), String::new())]));
    let value = |column: &RemoteColumn| {
        // The planner has a NULL of its own for a type that has none here.
        let null = ScalarValue::try_from(&column.data_type).ok()?;
        Some((column.name.clone(), Expr::Literal(null, Some(mark.clone()))))
    };
    columns.iter().filter_map(value).collect()
}

/// Where the rows of one `INSERT` go.
#[derive(Debug)]
pub(super) struct RemoteSink {
    insertion: Insertion,
    writer: Arc<dyn RowWriter>,
    settings: QuerySettings,
    schema: SchemaRef,
}

impl RemoteSink {
    /// Returns the sink of rows of that schema; its marked columns are left to the source.
    pub(super) fn new(
        table: RemoteScan,
        makes_table: bool,
        rows: &SchemaRef,
        writer: Arc<dyn RowWriter>,
        settings: QuerySettings,
    ) -> Result<Self> {
        let is_given = |field: &Field| !field.metadata().contains_key(OMITTED);
        let fields = rows.fields().iter().enumerate();
        let columns: Vec<usize> =
            fields.filter(|(_, field)| is_given(field)).map(|(index, _)| index).collect();
        if columns.is_empty() {
            let message = format!("INSERT INTO {} without any column", table.display_name());
            return Err(Error::not_supported(message));
        }
        // What may be NULL is the source's to judge.
        let open = |field: &Arc<Field>| field.as_ref().clone().with_nullable(true);
        let schema = Arc::new(Schema::new(rows.fields().iter().map(open).collect::<Vec<_>>()));
        let insertion = Insertion { table, columns, makes_table };
        Ok(Self { insertion, writer, settings, schema })
    }
}

impl DisplayAs for RemoteSink {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoteInsert(table={})", self.insertion.table.display_name())
    }
}

#[async_trait]
impl DataSink for RemoteSink {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    async fn write_all(
        &self,
        rows: SendableRecordBatchStream,
        _context: &Arc<TaskContext>,
    ) -> DataFusionResult<u64> {
        let columns = self.insertion.columns.clone();
        let schema = Arc::new(self.schema.project(&columns)?);
        let rows = rows.map(move |batch| Ok(batch?.project(&columns)?));
        let rows = Box::pin(RecordBatchStreamAdapter::new(schema, rows));
        Ok(self.writer.insert(&self.insertion, rows, &self.settings).await?)
    }
}
