//! What planner and source agreed to read, as plain values that travel to workers.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Aggregate, Join, Predicate};

/// A column of a remote table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RemoteColumn {
    /// The name exactly as the source spells it.
    pub name: String,
    /// What the engine sees.
    pub data_type: DataType,
    /// Whether the source may hold NULL.
    pub nullable: bool,
    /// The source's own name of the type, for rules of pushdown and for `SHOW COLUMNS`.
    pub remote_type: String,
    /// What else the connector needs to know of the column (collation, declared values, ...).
    pub detail: Value,
}

/// Stands for the type of a sum: no source has a type of this name.
const TOTAL: &str = "(total)";

impl RemoteColumn {
    /// Makes the column a sum of decimals that others may be added to: with all 128 bits, whatever digits its type has.
    pub(super) fn into_total(self) -> Self {
        Self { remote_type: TOTAL.to_owned(), ..self }
    }

    /// Whether the column is a sum that others may be added to. Where its decimals have 38 digits it may hold more: whether the
    /// whole sum fits is seen when it is whole.
    pub fn is_total(&self) -> bool {
        self.remote_type == TOTAL
    }

    /// Returns the column of which no more is known than what the engine sees.
    pub fn of_field(field: &Field) -> Self {
        Self {
            name: field.name().clone(),
            data_type: field.data_type().clone(),
            nullable: field.is_nullable(),
            remote_type: String::new(),
            detail: Value::Null,
        }
    }
}

/// One key of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderKey {
    /// The column, as an index into `RemoteScan::columns`.
    pub column: usize,
    /// Whether the greatest comes first.
    pub descending: bool,
    /// Whether NULLs come before all else.
    pub nulls_first: bool,
}

/// One agreed scan of one remote table, or of some that are joined there. Everything in it may be printed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RemoteScan {
    /// The catalog, by which a worker finds the connector.
    pub catalog: String,
    /// The schema exactly as the source spells it.
    pub schema: String,
    /// The table exactly as the source spells it.
    pub table: String,
    /// A query in the source's own words that stands for the table, as its user wrote it.
    pub query: Option<String>,
    /// What stands for the table: two scans that are joined there.
    pub join: Option<Box<Join>>,
    /// All columns of the table, in the source's order.
    pub columns: Vec<RemoteColumn>,
    /// Which of them are returned, in this order; none for a mere count of rows.
    pub projection: Vec<usize>,
    /// The source returns only rows for which all of these are true.
    pub filters: Vec<Predicate>,
    /// What the source returns instead of rows: then `projection` says nothing, and order and limit are not set.
    pub aggregate: Option<Aggregate>,
    /// Of each split only the first `limit` rows in this order are wanted; they may arrive in any.
    pub order: Vec<OrderKey>,
    /// The source may stop after that many rows per split.
    pub limit: Option<usize>,
    /// What all splits share: a snapshot, for instance. Written by `RowSource::splits`.
    pub shared: Value,
}

impl RemoteScan {
    /// Returns a scan of all columns and rows of a table.
    pub fn whole(catalog: &str, schema: &str, table: &str, columns: Vec<RemoteColumn>) -> Self {
        Self {
            catalog: catalog.to_owned(),
            schema: schema.to_owned(),
            table: table.to_owned(),
            query: None,
            join: None,
            projection: (0..columns.len()).collect(),
            columns,
            filters: Vec::new(),
            aggregate: None,
            order: Vec::new(),
            limit: None,
            shared: Value::Null,
        }
    }

    /// Returns a scan of all columns and rows of a query in the source's own words.
    pub fn of_query(catalog: &str, query: &str, columns: Vec<RemoteColumn>) -> Self {
        let whole = Self::whole(catalog, "system", "query", columns);
        Self { query: Some(query.trim().trim_end_matches(';').to_owned()), ..whole }
    }

    /// Returns the columns that the scan returns, in order.
    pub fn output(&self) -> Vec<RemoteColumn> {
        match &self.aggregate {
            Some(aggregate) => aggregate.output(&self.columns),
            None => self.projected().cloned().collect(),
        }
    }

    /// Returns the column that is returned at a place, as an index into `columns`; `None` if a computed value is. A condition
    /// on the columns of groups leaves out whole groups, so it may be asked of the rows as well.
    pub fn returned(&self, place: usize) -> Option<usize> {
        match &self.aggregate {
            Some(aggregate) => aggregate.groups.get(place).map(|group| group.column),
            None => self.projection.get(place).copied(),
        }
    }

    /// Returns the columns that are read of each row, in order.
    fn projected(&self) -> impl Iterator<Item = &RemoteColumn> {
        self.projection.iter().filter_map(|index| self.columns.get(*index))
    }

    /// Whether the scan returns rows without columns, so that only their number counts.
    pub fn counts_rows(&self) -> bool {
        self.aggregate.is_none() && self.projection.is_empty()
    }

    /// Whether the scan returns all rows of one table that pass its conditions.
    pub(super) fn returns_what_passes(&self) -> bool {
        let is_table = self.query.is_none() && self.join.is_none();
        is_table && self.aggregate.is_none() && self.limit.is_none()
    }

    /// Returns the schema of the batches that the scan returns.
    pub fn output_schema(&self) -> SchemaRef {
        match &self.aggregate {
            Some(aggregate) => schema_of(aggregate.output(&self.columns).iter()),
            None => schema_of(self.projected()),
        }
    }

    /// Returns the schema of the whole table.
    pub fn table_schema(&self) -> SchemaRef {
        schema_of(self.columns.iter())
    }

    /// Returns the table's name for messages: `catalog.schema.table`.
    pub fn display_name(&self) -> String {
        format!("{}.{}.{}", self.catalog, self.schema, self.table)
    }
}

fn schema_of<'a>(columns: impl Iterator<Item = &'a RemoteColumn>) -> SchemaRef {
    let field =
        |column: &RemoteColumn| Field::new(&column.name, column.data_type.clone(), column.nullable);
    Arc::new(Schema::new(columns.map(field).collect::<Vec<_>>()))
}
