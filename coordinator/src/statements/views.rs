//! `CREATE VIEW` and `DROP VIEW`.

use std::collections::BTreeSet;

use datafusion::sql::parser::Statement as DataFusionStatement;
use datafusion::sql::sqlparser::ast::ObjectName;
use meshwork_engine::{Error, Result};

use super::tables::refuse_repeated_names;
use crate::parse::{Statement, parse, parts_of};
use crate::query::QueryContext;
use crate::resolve::{Resolver, SYSTEM_CATALOG, TableName, View};
use crate::session::Snapshot;

pub(super) async fn create_view(
    context: &QueryContext<'_>,
    name: &ObjectName,
    or_replace: bool,
    sql: String,
) -> Result<u64> {
    let resolver = &context.coordinator.resolver;
    let name = resolver.full_name(&parts_of(name), &context.snapshot)?;
    if name.catalog == SYSTEM_CATALOG {
        return Err(Error::not_supported("views in the catalog system"));
    }
    let connector = resolver.connector(&name.catalog)?;
    let exists = is_view(context, &name);
    let hides = connector.tables(&name.schema).await?.iter().any(|entry| entry.name == name.table);
    if hides || (exists && !or_replace) {
        let message = format!("\"{name}\" exists already");
        return Err(Error::user("TABLE_ALREADY_EXISTS", message));
    }
    let view = View {
        catalog: name.catalog,
        schema: name.schema,
        name: name.table,
        sql,
        default_catalog: context.snapshot.catalog.clone(),
        default_schema: context.snapshot.schema.clone(),
        owner: context.session.user().to_owned(),
    };
    // A view that cannot be planned is refused now, not when it is read.
    let parsed = parse(&view.sql)?;
    if let Statement::Plan(statement) = &parsed.statement {
        refuse_itself(resolver, statement, &context.snapshot, &view)?;
        refuse_repeated_names(&context.plan(statement, &parsed.versions).await?.plan)?;
    }
    resolver.definitions().put_view(view).await.map(|()| 0)
}

pub(super) fn is_view(context: &QueryContext<'_>, name: &TableName) -> bool {
    let definitions = context.coordinator.resolver.definitions();
    definitions.view(&name.catalog, &name.schema, &name.table).is_some()
}

/// Refuses a view that would read itself, through other views as well.
fn refuse_itself(
    resolver: &Resolver,
    statement: &DataFusionStatement,
    session: &Snapshot,
    view: &View,
) -> Result<()> {
    let mut names = resolver.names(statement, session)?;
    let mut seen = BTreeSet::new();
    while let Some(name) = names.pop() {
        if (&name.catalog, &name.schema, &name.table) == (&view.catalog, &view.schema, &view.name) {
            let message = format!("view \"{name}\" would read itself");
            return Err(Error::user("VIEW_READS_ITSELF", message)
                .with_hint("Write its present query out in place of its name."));
        }
        let inner = resolver.definitions().view(&name.catalog, &name.schema, &name.table);
        if let Some(inner) = inner
            && seen.insert(name)
            && let Statement::Plan(statement) = parse(&inner.sql)?.statement
        {
            names.extend(resolver.names(&statement, &inner.session(session))?);
        }
    }
    Ok(())
}

pub(super) async fn drop_view(
    context: &QueryContext<'_>,
    name: &ObjectName,
    if_exists: bool,
) -> Result<u64> {
    let resolver = &context.coordinator.resolver;
    let name = resolver.full_name(&parts_of(name), &context.snapshot)?;
    if !is_view(context, &name) {
        return if if_exists { Ok(0) } else { Err(view_not_found(&name)) };
    }
    resolver.definitions().drop_view(&name.catalog, &name.schema, &name.table).await.map(|()| 0)
}

pub(super) fn view_not_found(name: &TableName) -> Error {
    Error::user("VIEW_NOT_FOUND", format!("view \"{name}\" does not exist"))
}
