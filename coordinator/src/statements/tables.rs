//! `CREATE TABLE`, from columns or from a query, and `DROP TABLE`.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::TableReference;
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{DdlStatement, Expr, LogicalPlan, LogicalPlanBuilder, cast};
use datafusion::sql::sqlparser::ast::ObjectName;
use meshwork_engine::connector;
use meshwork_engine::{Error, Result};

use super::{statistics, views};
use crate::parse::{CreateTable, TableVersions, is_repeated, parts_of, shown_name};
use crate::plan::Planned;
use crate::query::QueryContext;
use crate::resolve::{Found, TableName, table_not_found};
use crate::results;

pub(super) async fn create_table(
    context: &QueryContext<'_>,
    table: CreateTable,
    versions: &TableVersions,
) -> Result<u64> {
    let resolver = &context.coordinator.resolver;
    let name = resolver.full_name(&parts_of(&table.name), &context.snapshot)?;
    let made = make_table(context, &name, table, versions).await;
    resolver.forget(&name.catalog);
    made
}

async fn make_table(
    context: &QueryContext<'_>,
    name: &TableName,
    table: CreateTable,
    versions: &TableVersions,
) -> Result<u64> {
    let connector = context.coordinator.resolver.connector(&name.catalog)?;
    let query = match &table.query {
        Some(query) => Some(context.plan(query, versions).await?),
        None => None,
    };
    let columns = match (&table.columns, &query) {
        (Some(columns), _) => columns_of_definition(context, columns).await?,
        (None, Some(query)) => {
            refuse_repeated_names(&query.plan)?;
            all_nullable(&stored_columns(query.plan.schema().inner()))
        }
        (None, None) => return Err(Error::internal("a table with neither columns nor query")),
    };
    let is_view = views::is_view(context, name);
    let exists = connector.tables(&name.schema).await?.iter().any(|entry| entry.name == name.table);
    if exists || is_view {
        return match table.if_not_exists && !is_view {
            true => Ok(0),
            false => {
                let message = format!("table \"{name}\" exists already");
                Err(Error::user("TABLE_ALREADY_EXISTS", message))
            }
        };
    }
    let request = connector::CreateTable {
        schema: name.schema.clone(),
        table: name.table.clone(),
        columns,
        options: table.options,
        // Only the table that this statement made is filled, and dropped if that fails.
        if_not_exists: table.if_not_exists && query.is_none(),
    };
    let others_made_it =
        |error: &Error| table.if_not_exists && error.code == "TABLE_ALREADY_EXISTS";
    let query = match query {
        None => None,
        Some(query) => match connector.table_to_be(&request, &context.scope).await? {
            None => Some(query),
            Some(target) => {
                return match insert_query(context, name, target, query).await {
                    Err(error) if others_made_it(&error) => Ok(0),
                    filled => filled,
                };
            }
        },
    };
    match connector.create_table(request).await {
        Err(error) if others_made_it(&error) => return Ok(0),
        made => made?,
    }
    let Some(query) = query else { return Ok(0) };
    match fill_table(context, name, query).await {
        Ok(rows) => Ok(rows),
        Err(error) => {
            if let Err(left) = connector.drop_table(&name.schema, &name.table).await {
                tracing::warn!(table = %name, error = %left, "a table that could not be filled was left behind");
            }
            Err(error)
        }
    }
}

/// A result may show two columns of one name; a table or a view may not have them.
pub(super) fn refuse_repeated_names(query: &LogicalPlan) -> Result<()> {
    match query.schema().fields().iter().find(|field| is_repeated(field.name())) {
        None => Ok(()),
        Some(field) => {
            let message = format!("the query has two columns \"{}\"", shown_name(field.name()));
            Err(Error::user("DUPLICATE_COLUMN", message).with_hint("Name one of them with AS."))
        }
    }
}

/// Inserts a query's rows into a table that was just made.
async fn fill_table(context: &QueryContext<'_>, name: &TableName, query: Planned) -> Result<u64> {
    let resolver = &context.coordinator.resolver;
    let found = resolver.find(name, connector::ReadVersion::Committed, &context.scope).await?;
    let Found::Table(target) = found else {
        return Err(Error::internal(format!("table \"{name}\" became a view")));
    };
    insert_query(context, name, target, query).await
}

/// Inserts a query's rows into a table, column by column.
async fn insert_query(
    context: &QueryContext<'_>,
    name: &TableName,
    target: Arc<dyn TableProvider>,
    query: Planned,
) -> Result<u64> {
    let Planned { plan, state } = query;
    let rows = as_columns(plan, &target.schema())?;
    let reference = TableReference::full(&*name.catalog, &*name.schema, &*name.table);
    let target = provider_as_source(target);
    let plan =
        LogicalPlanBuilder::insert_into(rows, reference, target, InsertOp::Append)?.build()?;
    results::changed(context.rows(Planned { plan, state }).await?).await
}

/// Casts a query's columns to the types of a table's, by position.
fn as_columns(query: LogicalPlan, columns: &SchemaRef) -> Result<LogicalPlan> {
    let given = query.schema().columns();
    if given.len() != columns.fields().len() {
        let (given, want) = (given.len(), columns.fields().len());
        let message = format!("the query returns {given} columns, the table has {want}");
        return Err(Error::user("COLUMN_COUNT_MISMATCH", message));
    }
    let given = given.into_iter().map(Expr::Column);
    let cast = |(column, field): (Expr, &Arc<Field>)| {
        cast(column, field.data_type().clone()).alias(field.name())
    };
    let casts: Vec<Expr> = given.zip(columns.fields()).map(cast).collect();
    Ok(LogicalPlanBuilder::from(query).project(casts)?.build()?)
}

/// Asks DataFusion what the columns of a `CREATE TABLE` are.
pub(super) async fn columns_of_definition(
    context: &QueryContext<'_>,
    columns: &datafusion::sql::parser::Statement,
) -> Result<SchemaRef> {
    // Only this plan can come of a bare list of columns.
    match context.planner().plan_definition(columns).await? {
        LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(table)) => {
            Ok(stored_columns(table.input.schema().inner()))
        }
        _ => Err(Error::internal("a list of columns became another plan")),
    }
}

/// That a query returned no NULL this time promises nothing for later inserts.
fn all_nullable(columns: &SchemaRef) -> SchemaRef {
    let field = |field: &Arc<Field>| field.as_ref().clone().with_nullable(true);
    Arc::new(Schema::new(columns.fields().iter().map(field).collect::<Vec<_>>()))
}

/// Text and bytes are stored in their plain layouts, whatever layout a query computes them in.
fn stored_columns(columns: &SchemaRef) -> SchemaRef {
    let plain = |data_type: &DataType| match data_type {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        DataType::Dictionary(_, value) => value.as_ref().clone(),
        other => other.clone(),
    };
    let field = |field: &Arc<Field>| {
        Field::new(field.name(), plain(field.data_type()), field.is_nullable())
    };
    Arc::new(Schema::new(columns.fields().iter().map(field).collect::<Vec<_>>()))
}

/// Merges what a table is made of; returns how many rows were written for that.
pub(super) async fn optimize(
    context: &QueryContext<'_>,
    name: &ObjectName,
    full: bool,
) -> Result<u64> {
    let resolver = &context.coordinator.resolver;
    let name = resolver.full_name(&parts_of(name), &context.snapshot)?;
    resolver.connector(&name.catalog)?.optimize(&name.schema, &name.table, full).await
}

/// Makes a table that begins as another one of its catalog was.
pub(super) async fn clone_table(
    context: &QueryContext<'_>,
    (name, if_not_exists): (&ObjectName, bool),
    of: &ObjectName,
    version: connector::ReadVersion,
) -> Result<u64> {
    let resolver = &context.coordinator.resolver;
    let name = resolver.full_name(&parts_of(name), &context.snapshot)?;
    let of = resolver.full_name(&parts_of(of), &context.snapshot)?;
    if name.catalog != of.catalog {
        return Err(Error::not_supported("a CLONE in another catalog")
            .with_hint("CREATE TABLE ... AS copies the rows."));
    }
    if views::is_view(context, &name) {
        let message = format!("\"{name}\" is a view");
        return Err(Error::user("TABLE_ALREADY_EXISTS", message));
    }
    let connector = resolver.connector(&name.catalog)?;
    let of = (of.schema.as_str(), of.table.as_str());
    let cloned = connector.clone_table(of, version, (&name.schema, &name.table)).await;
    resolver.forget(&name.catalog);
    match cloned {
        Err(error) if if_not_exists && error.code == "TABLE_ALREADY_EXISTS" => Ok(0),
        done => done.map(|()| 0),
    }
}

/// Restores tables of one catalog; returns no count, as a commit does.
pub(super) async fn restore(
    context: &QueryContext<'_>,
    tables: &[ObjectName],
    version: connector::ReadVersion,
) -> Result<u64> {
    let resolver = &context.coordinator.resolver;
    let full_name = |name| resolver.full_name(&parts_of(name), &context.snapshot);
    let names: Vec<TableName> = tables.iter().map(full_name).collect::<Result<_>>()?;
    let Some(TableName { catalog, .. }) = names.first().cloned() else { return Ok(0) };
    if names.iter().any(|name| name.catalog != catalog) {
        return Err(Error::not_supported("RESTORE of tables of several catalogs at once"));
    }
    let tables: Vec<(&str, &str)> =
        names.iter().map(|name| (name.schema.as_str(), name.table.as_str())).collect();
    let made = resolver.connector(&catalog)?.restore(&tables, version).await?;
    tracing::info!(catalog, version = made, "tables restored");
    Ok(0)
}

pub(super) async fn drop_table(
    context: &QueryContext<'_>,
    name: &ObjectName,
    if_exists: bool,
) -> Result<u64> {
    let resolver = &context.coordinator.resolver;
    let name = resolver.full_name(&parts_of(name), &context.snapshot)?;
    let dropped = resolver.connector(&name.catalog)?.drop_table(&name.schema, &name.table).await;
    resolver.forget(&name.catalog);
    if !dropped? {
        return if if_exists { Ok(0) } else { Err(table_not_found(&name)) };
    }
    // A table that is made anew under this name is another one.
    let gone = name.to_string();
    if let Err(error) = resolver.analyses().forget(&statistics::key(name)).await {
        tracing::warn!(table = gone, %error, "statistics of a table that was dropped were left behind");
    }
    Ok(0)
}
