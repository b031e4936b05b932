//! What is not a query: each statement by what it is about.

mod alter;
mod batches;
mod catalogs;
mod changes;
mod session;
mod show;
mod statistics;
mod tables;
mod views;

use datafusion::sql::sqlparser::ast::ObjectName;
use meshwork_engine::{Error, Result};

use crate::parse::{Statement, TableVersions, parts_of};
use crate::query::QueryContext;

pub(crate) use batches::insert_into_batch;
pub(crate) use changes::{change_rows, changes_rows};
pub(crate) use show::show;

/// Carries out a statement that changes something; returns the number of rows it changed.
pub(crate) async fn change(
    context: &QueryContext<'_>,
    statement: Statement,
    versions: &TableVersions,
) -> Result<u64> {
    match statement {
        Statement::Use { catalog, schema } => session::use_names(context, catalog, schema).await,
        Statement::SetSession { name, value } => context.session.set(&name, &value).map(|()| 0),
        Statement::ResetSession { name } => context.session.reset(&name).map(|()| 0),
        Statement::CreateCatalog { name, kind, properties, if_not_exists } => {
            catalogs::create_catalog(context, name, kind, properties, if_not_exists).await
        }
        Statement::DropCatalog { name, if_exists } => {
            catalogs::drop_catalog(context, &name, if_exists).await
        }
        Statement::CreateSchema { name, if_not_exists } => {
            let (catalog, schema) = schema_of(context, Some(&name))?;
            let resolver = &context.coordinator.resolver;
            let made = resolver.connector(&catalog)?.create_schema(&schema, if_not_exists).await;
            resolver.forget(&catalog);
            made.map(|()| 0)
        }
        Statement::CreateTable(table) => tables::create_table(context, *table, versions).await,
        Statement::AlterTable { name, change } => alter::alter_table(context, &name, change).await,
        Statement::DropTable { name, if_exists } => {
            tables::drop_table(context, &name, if_exists).await
        }
        Statement::CreateView { name, or_replace, sql } => {
            views::create_view(context, &name, or_replace, sql).await
        }
        Statement::DropView { name, if_exists } => {
            views::drop_view(context, &name, if_exists).await
        }
        Statement::FlushMetadata { catalog } => {
            catalogs::flush_metadata(context, catalog.as_deref()).map(|()| 0)
        }
        Statement::Analyze { table } => statistics::analyze(context, &table).await,
        Statement::Optimize { table, full } => tables::optimize(context, &table, full).await,
        Statement::CloneTable { name, of, version, if_not_exists } => {
            tables::clone_table(context, (&name, if_not_exists), &of, version).await
        }
        Statement::Restore { tables, version } => tables::restore(context, &tables, version).await,
        Statement::Vacuum { catalog, keep } => {
            context.coordinator.resolver.connector(&catalog)?.vacuum(keep).await
        }
        Statement::Backup { catalog, to } => {
            let resolver = &context.coordinator.resolver;
            let to = resolver.connector(&to)?;
            resolver.connector(&catalog)?.back_up(to.as_ref()).await
        }
        Statement::BeginBatch => batches::begin_batch(context).await,
        Statement::CommitBatch { feed } => batches::commit_batch(context, feed).await,
        Statement::RollbackBatch => batches::rollback_batch(context).await,
        Statement::Plan(_) | Statement::Show(_) | Statement::Explain { .. } => {
            Err(Error::internal("a query came where a change was expected"))
        }
    }
}

/// Returns catalog and schema of a name with one or two parts, or the session's.
fn schema_of(context: &QueryContext<'_>, name: Option<&ObjectName>) -> Result<(String, String)> {
    let parts = name.map(parts_of).unwrap_or_default();
    let catalog = || context.snapshot.catalog.clone();
    let schema = || context.snapshot.schema.clone();
    let missing = || no_default("schema", "USE catalog.schema");
    match parts.as_slice() {
        [] => Ok((catalog().ok_or_else(missing)?, schema().ok_or_else(missing)?)),
        [schema] => Ok((catalog().ok_or_else(missing)?, schema.clone())),
        [catalog, schema] => Ok((catalog.clone(), schema.clone())),
        _ => Err(Error::user("INVALID_NAME", "a schema's name has one or two parts")),
    }
}

fn no_default(what: &str, instead: &str) -> Error {
    Error::user("NAME_NOT_QUALIFIED", format!("the session has no {what}"))
        .with_hint(format!("Write {instead}."))
}
