//! What is not a query: `SHOW`, `USE`, `SET SESSION`, `CREATE`, `DROP`, update batches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::TableReference;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{DdlStatement, DmlStatement, LogicalPlan};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::{ExecutionPlan, collect, execute_stream};
use datafusion::sql::sqlparser::ast::ObjectName;
use meshwork_engine::catalog::{CatalogDefinition, catalog_not_found};
use meshwork_engine::connector;
use meshwork_engine::{Error, Result, environment};

use crate::parse::{
    CreateTable, Show, Statement, TableVersions, is_repeated, parse, parts_of, shown_name,
};
use crate::plan::Planned;
use crate::query::QueryContext;
use crate::resolve::{Found, Resolver, SYSTEM_CATALOG, TableName, View, batch_of, like, texts};
use crate::session::{OpenBatch, SETTINGS, Snapshot};
use crate::types::sql_name;

/// Answers a `SHOW`.
pub(crate) async fn show(context: &QueryContext<'_>, show: &Show) -> Result<RecordBatch> {
    let resolver = &context.coordinator.resolver;
    match show {
        Show::Catalogs { like } => names("catalog", resolver.catalog_names(), like.as_deref()),
        Show::Schemas { catalog, like } => {
            let Some(catalog) = catalog.clone().or_else(|| context.snapshot.catalog.clone()) else {
                return Err(no_default("catalog", "SHOW SCHEMAS FROM catalog"));
            };
            names("schema", resolver.schema_names(&catalog).await?, like.as_deref())
        }
        Show::Tables { schema, like } => {
            let (catalog, schema) = schema_of(context, schema.as_ref())?;
            let tables = resolver.tables(&catalog, &schema).await?;
            if tables.is_empty() && !resolver.schema_names(&catalog).await?.contains(&schema) {
                let message =
                    format!("schema \"{schema}\" does not exist in catalog \"{catalog}\"");
                return Err(Error::user("SCHEMA_NOT_FOUND", message));
            }
            names("table", tables.into_iter().map(|entry| entry.name).collect(), like.as_deref())
        }
        Show::Columns { table } => columns(&context.columns_of(&parts_of(table)).await?),
        Show::Functions { like } => functions(context, like.as_deref()),
        Show::Session => session_settings(context),
        Show::CreateCatalog { name } => {
            let definitions = context.coordinator.catalogs.definitions();
            let definition = definitions.iter().find(|definition| definition.name == *name);
            let definition = definition.ok_or_else(|| catalog_not_found(name))?;
            names("create_catalog", vec![definition.shown_statement()], None)
        }
        Show::CreateView { name } => {
            let name = resolver.full_name(&parts_of(name), &context.snapshot)?;
            let view = resolver.definitions().view(&name.catalog, &name.schema, &name.table);
            let view = view.ok_or_else(|| view_not_found(&name))?;
            names("create_view", vec![format!("CREATE VIEW {name} AS\n{}", view.sql)], None)
        }
    }
}

/// Carries out a statement that changes something; returns the number of rows it changed.
pub(crate) async fn change(
    context: &QueryContext<'_>,
    statement: Statement,
    versions: &TableVersions,
) -> Result<u64> {
    match statement {
        Statement::Use { catalog, schema } => use_names(context, catalog, schema).await,
        Statement::SetSession { name, value } => context.session.set(&name, &value).map(|()| 0),
        Statement::ResetSession { name } => context.session.reset(&name).map(|()| 0),
        Statement::CreateCatalog { name, kind, properties, if_not_exists } => {
            create_catalog(context, name, kind, properties, if_not_exists).await
        }
        Statement::DropCatalog { name, if_exists } => drop_catalog(context, &name, if_exists).await,
        Statement::CreateSchema { name, if_not_exists } => {
            let (catalog, schema) = schema_of(context, Some(&name))?;
            let connector = context.coordinator.resolver.connector(&catalog)?;
            connector.create_schema(&schema, if_not_exists).await.map(|()| 0)
        }
        Statement::CreateTable(table) => create_table(context, *table, versions).await,
        Statement::DropTable { name, if_exists } => drop_table(context, &name, if_exists).await,
        Statement::CreateView { name, or_replace, sql } => {
            create_view(context, &name, or_replace, sql).await
        }
        Statement::DropView { name, if_exists } => drop_view(context, &name, if_exists).await,
        Statement::BeginBatch => begin_batch(context).await,
        Statement::CommitBatch => commit_batch(context).await,
        Statement::RollbackBatch => {
            context.session.batch.lock().await.take().map(|_batch| 0).ok_or_else(no_batch)
        }
        Statement::Plan(_) | Statement::Show(_) | Statement::Explain { .. } => {
            Err(Error::internal("a query came where a change was expected"))
        }
    }
}

async fn use_names(
    context: &QueryContext<'_>,
    catalog: Option<String>,
    schema: Option<String>,
) -> Result<u64> {
    let resolver = &context.coordinator.resolver;
    let current = context.snapshot.catalog.clone();
    // `USE x` names a schema of the current catalog, or else a catalog.
    let (catalog, schema) = match (catalog, schema) {
        (None, Some(name)) => {
            let is_schema = match &current {
                Some(catalog) => resolver.schema_names(catalog).await?.contains(&name),
                None => false,
            };
            if is_schema {
                (current, Some(name))
            } else if resolver.catalog_names().contains(&name) {
                (Some(name), None)
            } else {
                let message =
                    format!("\"{name}\" is neither a schema of the current catalog nor a catalog");
                return Err(Error::user("SCHEMA_NOT_FOUND", message));
            }
        }
        (catalog, schema) => (catalog, schema),
    };
    if let (Some(catalog), Some(schema)) = (&catalog, &schema)
        && !resolver.schema_names(catalog).await?.contains(schema)
    {
        let message = format!("schema \"{schema}\" does not exist in catalog \"{catalog}\"");
        return Err(Error::user("SCHEMA_NOT_FOUND", message));
    }
    context.session.set_catalog(catalog);
    context.session.set_schema(schema);
    Ok(0)
}

async fn create_catalog(
    context: &QueryContext<'_>,
    name: String,
    kind: String,
    properties: Vec<(String, String)>,
    if_not_exists: bool,
) -> Result<u64> {
    let coordinator = context.coordinator;
    if coordinator.resolver.catalog_names().contains(&name) {
        return match if_not_exists {
            true => Ok(0),
            false => {
                let message = format!("catalog \"{name}\" exists already");
                Err(Error::user("CATALOG_ALREADY_EXISTS", message))
            }
        };
    }
    let properties: BTreeMap<_, _> = properties.into_iter().collect();
    let definition = CatalogDefinition { name, kind, properties };
    coordinator.catalogs.try_make(&definition)?;
    coordinator.resolver.definitions().put_catalog(definition.clone()).await?;
    coordinator.catalogs.define(definition);
    Ok(0)
}

async fn drop_catalog(context: &QueryContext<'_>, name: &str, if_exists: bool) -> Result<u64> {
    let coordinator = context.coordinator;
    let definitions = coordinator.resolver.definitions();
    if definitions.catalogs().iter().any(|definition| definition.name == name) {
        definitions.drop_catalog(name).await?;
        coordinator.catalogs.remove(name);
        return Ok(0);
    }
    if coordinator.resolver.catalog_names().iter().any(|known| known == name) {
        let message = format!("catalog \"{name}\" is configured by a file");
        return Err(Error::user("CATALOG_NOT_DROPPABLE", message)
            .with_hint("Remove its file on the coordinator and start it again."));
    }
    if if_exists { Ok(0) } else { Err(catalog_not_found(name)) }
}

async fn create_table(
    context: &QueryContext<'_>,
    table: CreateTable,
    versions: &TableVersions,
) -> Result<u64> {
    let name = context.coordinator.resolver.full_name(&parts_of(&table.name), &context.snapshot)?;
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
    let is_view = is_view(context, &name);
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
    match connector.create_table(request).await {
        Err(error) if table.if_not_exists && error.code == "TABLE_ALREADY_EXISTS" => return Ok(0),
        made => made?,
    }
    let Some(query) = query else { return Ok(0) };
    match fill_table(context, &name, query).await {
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
fn refuse_repeated_names(query: &LogicalPlan) -> Result<()> {
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
    let rows = query.state.create_physical_plan(&query.plan).await?;
    let rows = as_columns(rows, &target.schema())?;
    // A sink reads one partition; for INSERT the planner sees to that.
    let rows = Arc::new(CoalescePartitionsExec::new(rows));
    let insert = target.insert_into(&query.state, rows, InsertOp::Append).await?;
    count_of(insert, &query.state).await
}

/// Casts a plan's columns to the types of a table's, by position.
fn as_columns(rows: Arc<dyn ExecutionPlan>, columns: &SchemaRef) -> Result<Arc<dyn ExecutionPlan>> {
    use datafusion::physical_expr::PhysicalExpr;
    use datafusion::physical_expr::expressions::{Column, cast};
    use datafusion::physical_plan::projection::ProjectionExec;
    let have = rows.schema();
    if have.fields().len() != columns.fields().len() {
        let (have, want) = (have.fields().len(), columns.fields().len());
        let message = format!("the query returns {have} columns, the table has {want}");
        return Err(Error::user("COLUMN_COUNT_MISMATCH", message));
    }
    let mut casts: Vec<(Arc<dyn PhysicalExpr>, String)> = Vec::new();
    for (index, field) in columns.fields().iter().enumerate() {
        let column = Arc::new(Column::new(have.field(index).name(), index));
        casts.push((cast(column, &have, field.data_type().clone())?, field.name().clone()));
    }
    Ok(Arc::new(ProjectionExec::try_new(casts, rows)?))
}

async fn count_of(insert: Arc<dyn ExecutionPlan>, state: &SessionState) -> Result<u64> {
    let context = state.task_ctx();
    let run =
        environment::spawn_on(&environment::cpu_runtime(), "insert", collect(insert, context));
    let batches = run.await??;
    let counts = batches.iter().filter_map(|batch| {
        let counts = batch.column(0).as_primitive_opt::<UInt64Type>()?;
        Some(counts.iter().flatten().sum::<u64>())
    });
    Ok(counts.sum())
}

/// Asks DataFusion what the columns of a `CREATE TABLE` are.
async fn columns_of_definition(
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

async fn drop_table(context: &QueryContext<'_>, name: &ObjectName, if_exists: bool) -> Result<u64> {
    let resolver = &context.coordinator.resolver;
    let name = resolver.full_name(&parts_of(name), &context.snapshot)?;
    let dropped = resolver.connector(&name.catalog)?.drop_table(&name.schema, &name.table).await?;
    if dropped || if_exists { Ok(0) } else { Err(crate::resolve::table_not_found(&name)) }
}

async fn create_view(
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

fn is_view(context: &QueryContext<'_>, name: &TableName) -> bool {
    let definitions = context.coordinator.resolver.definitions();
    definitions.view(&name.catalog, &name.schema, &name.table).is_some()
}

/// Refuses a view that would read itself, through other views as well.
fn refuse_itself(
    resolver: &Resolver,
    statement: &datafusion::sql::parser::Statement,
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

async fn drop_view(context: &QueryContext<'_>, name: &ObjectName, if_exists: bool) -> Result<u64> {
    let resolver = &context.coordinator.resolver;
    let name = resolver.full_name(&parts_of(name), &context.snapshot)?;
    let definitions = resolver.definitions();
    if definitions.view(&name.catalog, &name.schema, &name.table).is_none() {
        return if if_exists { Ok(0) } else { Err(view_not_found(&name)) };
    }
    definitions.drop_view(&name.catalog, &name.schema, &name.table).await.map(|()| 0)
}

async fn begin_batch(context: &QueryContext<'_>) -> Result<u64> {
    let mut batch = context.session.batch.lock().await;
    if batch.is_some() {
        return Err(Error::user("BATCH_OPEN", "an update batch is open already")
            .with_hint("COMMIT or ROLLBACK it first."));
    }
    *batch = Some(OpenBatch::default());
    Ok(0)
}

/// Makes the open batch visible; returns no count, because a batch spans tables.
async fn commit_batch(context: &QueryContext<'_>) -> Result<u64> {
    let batch = context.session.batch.lock().await.take().ok_or_else(no_batch)?;
    if let Some((catalog, batch)) = batch.target {
        let version = batch.commit().await?;
        tracing::info!(catalog, version, "update batch committed");
    }
    Ok(0)
}

/// Adds an insert to the session's open batch; the first insert chooses the catalog.
pub(crate) async fn insert_into_batch(
    context: &QueryContext<'_>,
    insert: &DmlStatement,
    state: &SessionState,
) -> Result<u64> {
    let resolver = &context.coordinator.resolver;
    let name = resolver.full_name(&parts(&insert.table_name), &context.snapshot)?;
    let mut open = context.session.batch.lock().await;
    let open = open.as_mut().ok_or_else(no_batch)?;
    if open.target.is_none() {
        let batch = resolver.connector(&name.catalog)?.begin_batch().await?;
        open.target = Some((name.catalog.clone(), batch));
    }
    let Some((catalog, batch)) = open.target.as_mut() else { return Err(no_batch()) };
    if *catalog != name.catalog {
        let message =
            format!("the open update batch is of catalog \"{catalog}\", not \"{}\"", name.catalog);
        return Err(Error::user("BATCH_OF_OTHER_CATALOG", message)
            .with_hint("One update batch changes tables of one catalog."));
    }
    let rows = state.create_physical_plan(&insert.input).await?;
    let rows = execute_stream(rows, state.task_ctx())?;
    batch.insert(state, &name.schema, &name.table, rows).await
}

fn no_batch() -> Error {
    Error::user("NO_BATCH", "no update batch is open").with_hint("BEGIN UPDATE BATCH opens one.")
}

fn view_not_found(name: &TableName) -> Error {
    Error::user("VIEW_NOT_FOUND", format!("view \"{name}\" does not exist"))
}

fn parts(name: &TableReference) -> Vec<String> {
    let parts = [name.catalog(), name.schema(), Some(name.table())];
    parts.into_iter().flatten().map(str::to_owned).collect()
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

/// Returns one column of names, filtered by a pattern.
fn names(column: &str, names: Vec<String>, pattern: Option<&str>) -> Result<RecordBatch> {
    let kept = names.into_iter().filter(|name| pattern.is_none_or(|pattern| like(name, pattern)));
    batch_of(vec![(column, texts(kept.map(Some)))])
}

fn columns(schema: &SchemaRef) -> Result<RecordBatch> {
    let column = |text: fn(&Field) -> String| -> ArrayRef {
        texts(schema.fields().iter().map(|field| Some(text(field))))
    };
    batch_of(vec![
        ("column", column(|field| field.name().clone())),
        ("type", column(|field| sql_name(field.data_type()))),
        ("nullable", column(|field| if field.is_nullable() { "YES" } else { "NO" }.to_owned())),
    ])
}

fn functions(context: &QueryContext<'_>, pattern: Option<&str>) -> Result<RecordBatch> {
    let state = (context.coordinator.base)();
    let mut all: Vec<(String, &str, String)> = Vec::new();
    let scalar = state.scalar_functions().values();
    all.extend(scalar.map(|f| (f.name().to_owned(), "scalar", described(f.documentation()))));
    let aggregate = state.aggregate_functions().values();
    all.extend(aggregate.map(|f| (f.name().to_owned(), "aggregate", described(f.documentation()))));
    let window = state.window_functions().values();
    all.extend(window.map(|f| (f.name().to_owned(), "window", described(f.documentation()))));
    all.retain(|(name, ..)| pattern.is_none_or(|pattern| like(name, pattern)));
    all.sort();
    all.dedup();
    batch_of(vec![
        ("function", texts(all.iter().map(|(name, ..)| Some(name.clone())))),
        ("kind", texts(all.iter().map(|(_, kind, _)| Some((*kind).to_owned())))),
        ("description", texts(all.iter().map(|(.., text)| Some(text.clone())))),
    ])
}

fn described(documentation: Option<&datafusion::logical_expr::Documentation>) -> String {
    documentation.map(|text| text.description.clone()).unwrap_or_default()
}

fn session_settings(context: &QueryContext<'_>) -> Result<RecordBatch> {
    let all = || SETTINGS.iter();
    let value = |name| context.snapshot.get(name).to_owned();
    batch_of(vec![
        ("setting", texts(all().map(|setting| Some(setting.name.to_owned())))),
        ("value", texts(all().map(|setting| Some(value(setting.name))))),
        ("default", texts(all().map(|setting| Some(setting.default.to_owned())))),
        ("description", texts(all().map(|setting| Some(setting.description.to_owned())))),
    ])
}
