//! `ALTER TABLE`, and rollups, which are a part of a table's definition.

use datafusion::arrow::datatypes::Field;
use datafusion::common::ScalarValue;
use datafusion::physical_plan::common::collect;
use datafusion::sql::parser::Statement as DataFusionStatement;
use datafusion::sql::sqlparser::ast::ObjectName;
use meshwork_engine::connector::AlterTable;
use meshwork_engine::{Error, Result};

use super::statistics::{key, planned};
use super::tables::columns_of_definition;
use crate::parse::{TableAlteration, parts_of};
use crate::query::QueryContext;

pub(super) async fn alter_table(
    context: &QueryContext<'_>,
    name: &ObjectName,
    change: TableAlteration,
) -> Result<u64> {
    let resolver = &context.coordinator.resolver;
    let name = resolver.full_name(&parts_of(name), &context.snapshot)?;
    let name = resolver.spelled(name, &context.scope).await?;
    let keeps_names = matches!(
        change,
        TableAlteration::AddColumn { .. }
            | TableAlteration::AddRollup { .. }
            | TableAlteration::DropRollup { .. }
    );
    let change = match change {
        TableAlteration::AddColumn { column, function, default } => {
            let column = only_column(context, &column).await?;
            let default = match default {
                Some(default) => Some(constant(context, &default).await?),
                None => None,
            };
            AlterTable::AddColumn { column, function, default }
        }
        TableAlteration::DropColumn { name } => AlterTable::DropColumn { name },
        TableAlteration::RenameColumn { name, to } => AlterTable::RenameColumn { name, to },
        TableAlteration::ColumnType { column } => {
            let column = only_column(context, &column).await?;
            let (name, data_type) = (column.name().clone(), column.data_type().clone());
            AlterTable::ColumnType { name, data_type }
        }
        TableAlteration::Rename { to } => AlterTable::Rename { to },
        TableAlteration::AddRollup { name, columns } => AlterTable::AddRollup { name, columns },
        TableAlteration::DropRollup { name } => AlterTable::DropRollup { name },
    };
    let connector = resolver.connector(&name.catalog)?;
    let altered = connector.alter_table(&name.schema, &name.table, change).await;
    resolver.forget(&name.catalog);
    altered?;
    if !keeps_names {
        // What was kept of a column that was called so is not of the one that is.
        resolver.analyses().forget(&key(name)).await?;
    }
    Ok(0)
}

async fn only_column(
    context: &QueryContext<'_>,
    definition: &DataFusionStatement,
) -> Result<Field> {
    let columns = columns_of_definition(context, definition).await?;
    let column = columns.fields().first().map(|field| Field::clone(field));
    column.ok_or_else(|| Error::internal("a definition without its column"))
}

/// Returns what an expression without columns is.
async fn constant(context: &QueryContext<'_>, expression: &str) -> Result<ScalarValue> {
    let rows = context.rows(planned(context, &format!("SELECT {expression}")).await?).await?;
    let batches = collect(rows).await?;
    match batches.iter().find(|batch| batch.num_rows() > 0) {
        Some(batch) => Ok(ScalarValue::try_from_array(batch.column(0), 0)?),
        None => Err(Error::internal("a value is none")),
    }
}
