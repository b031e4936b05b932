//! `ANALYZE`, which takes a table's statistics by a query of our own, and `SHOW STATS`, which says what is known.

use std::any::Any;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float64Array};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::ScalarValue;
use datafusion::physical_plan::common::collect;
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::sql::sqlparser::ast::ObjectName;
use meshwork_engine::environment::unix_micros;
use meshwork_engine::remote::{Literal, RemoteTable};
use meshwork_engine::statistics::{
    ColumnStatistics, TableKey, TableStatistics, of_plan, text_of_literal,
};
use meshwork_engine::{Error, Result};

use crate::parse::{Statement, parse, parts_of};
use crate::plan::Planned;
use crate::query::QueryContext;
use crate::resolve::{Found, INFORMATION_SCHEMA, SYSTEM_CATALOG, TableName, batch_of, texts};

/// Reads a table once and keeps what was found; returns how many rows it has. Nothing is written to the source.
pub(super) async fn analyze(context: &QueryContext<'_>, name: &ObjectName) -> Result<u64> {
    let resolver = &context.coordinator.resolver;
    let name = resolver.full_name(&parts_of(name), &context.snapshot)?;
    if name.catalog == SYSTEM_CATALOG || name.schema == INFORMATION_SCHEMA {
        return Err(Error::not_supported("ANALYZE of a table that Meshwork makes itself"));
    }
    let version = context.snapshot.read_version();
    let Found::Table(table) = resolver.find(&name, version, &context.scope).await? else {
        return Err(Error::not_supported("ANALYZE of a view")
            .with_hint("Analyse the tables that it reads."));
    };
    let name = resolver.spelled(name, &context.scope).await?;
    let question = Question::about(&table.schema());
    let rows = context.rows(planned(context, &question.sql(&name)).await?).await?;
    let batches = collect(rows).await?;
    let statistics = question.answer(&batches)?;
    let n_rows = statistics.n_rows.unwrap_or_default();
    resolver.analyses().keep(&key(name), statistics).await?;
    Ok(n_rows as u64)
}

pub(super) async fn planned(context: &QueryContext<'_>, sql: &str) -> Result<Planned> {
    let parsed = parse(sql)?;
    let Statement::Plan(statement) = parsed.statement else {
        return Err(Error::internal("a query of our own is none"));
    };
    context.plan(&statement, &parsed.versions).await
}

pub(super) fn key(name: TableName) -> TableKey {
    TableKey { catalog: name.catalog, schema: name.schema, table: name.table }
}

/// The one query that says all about a table: its rows, then what is asked of each column.
struct Question {
    columns: Vec<Asked>,
}

struct Asked {
    name: String,
    is_float: bool,
    has_ends: bool,
    has_lengths: bool,
}

impl Question {
    fn about(columns: &Schema) -> Self {
        let asked = |field: &Arc<Field>| Asked {
            name: field.name().clone(),
            is_float: field.data_type().is_floating(),
            has_ends: has_ends(field.data_type()),
            has_lengths: matches!(
                field.data_type(),
                DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
            ),
        };
        Self { columns: columns.fields().iter().map(asked).collect() }
    }

    fn sql(&self, table: &TableName) -> String {
        let mut parts = vec!["count(*)".to_owned()];
        for Asked { name, is_float, has_ends, has_lengths } in &self.columns {
            let column = quoted(name);
            parts.push(format!("count({column})"));
            // DataFusion counts distinct values of all types but floats.
            parts.push(match is_float {
                true => format!("approx_distinct(CAST({column} AS VARCHAR))"),
                false => format!("approx_distinct({column})"),
            });
            if *has_ends {
                parts.push(format!("min({column})"));
                parts.push(format!("max({column})"));
            }
            if *has_lengths {
                parts.push(format!("avg(octet_length({column}))"));
            }
        }
        // Every part has a name of its own, whatever the columns are called.
        let parts = parts.iter().enumerate().map(|(place, part)| format!("{part} AS \"{place}\""));
        let names = [&table.catalog, &table.schema, &table.table].map(|part| quoted(part));
        format!("SELECT {} FROM {}", parts.collect::<Vec<_>>().join(", "), names.join("."))
    }

    fn answer(&self, batches: &[RecordBatch]) -> Result<TableStatistics> {
        let row = batches.iter().find(|batch| batch.num_rows() > 0);
        let row = row.ok_or_else(|| Error::internal("an aggregate returned no row"))?;
        let mut values = row.columns().iter().map(|column| ScalarValue::try_from_array(column, 0));
        let mut next = || -> Result<ScalarValue> {
            let value = values.next().ok_or_else(|| Error::internal("an aggregate is missing"))?;
            Ok(value?)
        };
        let n_rows = number(&next()?).unwrap_or_default();
        let mut statistics = TableStatistics {
            n_rows: Some(n_rows),
            taken_us: Some(unix_micros()),
            ..TableStatistics::default()
        };
        for Asked { name, has_ends, has_lengths, .. } in &self.columns {
            let n_filled = number(&next()?).unwrap_or_default();
            let n_distinct = number(&next()?).map(|n_distinct| n_distinct.min(n_filled));
            let null_fraction = (n_rows > 0.0).then(|| 1.0 - n_filled / n_rows);
            let mut column =
                ColumnStatistics { null_fraction, n_distinct, ..ColumnStatistics::default() };
            if *has_ends {
                let ends = [next()?, next()?].map(|end| Literal::from_scalar(&end));
                // Nothing can be estimated between a number and NaN, or an infinity.
                if ends.iter().flatten().all(is_finite) {
                    [column.min, column.max] = ends;
                }
            }
            if *has_lengths {
                column.average_bytes = number(&next()?);
            }
            statistics.columns.insert(name.clone(), column);
        }
        Ok(statistics)
    }
}

/// Whether values have an order that min and max know and statistics have a place for.
fn has_ends(data_type: &DataType) -> bool {
    data_type.is_numeric()
        || matches!(
            data_type,
            DataType::Boolean
                | DataType::Utf8
                | DataType::LargeUtf8
                | DataType::Utf8View
                | DataType::Date32
                | DataType::Timestamp(..)
        )
}

fn is_finite(end: &Literal) -> bool {
    match end {
        Literal::Float(bits) => f64::from_bits(*bits).is_finite(),
        Literal::Bool(_)
        | Literal::Int(_)
        | Literal::UInt(_)
        | Literal::Decimal { .. }
        | Literal::Text(_)
        | Literal::Bytes(_)
        | Literal::Date(_)
        | Literal::Timestamp { .. } => true,
    }
}

fn number(value: &ScalarValue) -> Option<f64> {
    match value.cast_to(&DataType::Float64) {
        Ok(ScalarValue::Float64(number)) => number,
        _ => None,
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Returns what is known of a table, a row for each column, and a last one for the table.
pub(super) async fn show_stats(
    context: &QueryContext<'_>,
    name: &ObjectName,
) -> Result<RecordBatch> {
    let resolver = &context.coordinator.resolver;
    let name = resolver.full_name(&parts_of(name), &context.snapshot)?;
    let version = context.snapshot.read_version();
    let found = resolver.find(&name, version, &context.scope).await?;
    if let Found::Table(table) = &found
        && let Some(remote) = (table.as_ref() as &dyn Any).downcast_ref::<RemoteTable>()
    {
        let known = remote.statistics().await;
        return shown(&table.schema(), &known);
    }
    let quoted = [&name.catalog, &name.schema, &name.table].map(|part| quoted(part)).join(".");
    let Planned { plan, state } = planned(context, &format!("SELECT * FROM {quoted}")).await?;
    let plan = state.create_physical_plan(&plan).await?;
    let said = StatisticsContext::new().compute(plan.as_ref(), &StatisticsArgs::new())?;
    let mut known = of_plan(&said, &plan.schema());
    if let Found::Table(_) = found
        && name.catalog != SYSTEM_CATALOG
        && name.schema != INFORMATION_SCHEMA
    {
        let name = resolver.spelled(name, &context.scope).await?;
        if let Some(kept) = context.scope.kept_statistics(key(name)).await {
            known = known.or(&kept);
        }
    }
    shown(&plan.schema(), &known)
}

fn shown(columns: &Schema, known: &TableStatistics) -> Result<RecordBatch> {
    let nothing = ColumnStatistics::default();
    let fields = columns.fields().iter();
    let each: Vec<(&String, &ColumnStatistics)> = fields
        .map(|field| (field.name(), known.columns.get(field.name()).unwrap_or(&nothing)))
        .collect();
    // The last row is the table's.
    let numbers = |of: &dyn Fn(&ColumnStatistics) -> Option<f64>, of_table: Option<f64>| {
        let values = each.iter().map(|(_, column)| of(column)).chain([of_table]);
        Arc::new(values.collect::<Float64Array>()) as ArrayRef
    };
    let of_columns = |of: &dyn Fn(&ColumnStatistics) -> Option<String>| {
        texts(each.iter().map(|(_, column)| of(column)).chain([None]))
    };
    let bytes = |column: &ColumnStatistics| {
        let filled = 1.0 - column.null_fraction.unwrap_or(0.0);
        Some((column.average_bytes? * known.n_rows? * filled).round())
    };
    let names = each.iter().map(|(name, _)| Some((*name).clone())).chain([None]);
    batch_of(vec![
        ("column_name", texts(names)),
        ("data_size", numbers(&bytes, None)),
        ("distinct_values_count", numbers(&|column| column.n_distinct.map(f64::round), None)),
        ("nulls_fraction", numbers(&|column| column.null_fraction, None)),
        ("row_count", numbers(&|_| None, known.n_rows.map(f64::round))),
        ("low_value", of_columns(&|column| column.min.as_ref().map(text_of_literal))),
        ("high_value", of_columns(&|column| column.max.as_ref().map(text_of_literal))),
    ])
}
