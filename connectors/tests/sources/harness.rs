//! Catalogs and queries over them, in one process.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::record_batch::RecordBatch;
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::catalog::{
    CatalogProvider, MemoryCatalogProvider, MemorySchemaProvider, SchemaProvider,
};
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::config::SessionConfig;
use datafusion::execution::context::SessionContext;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::physical_plan::{ExecutionPlan, collect, displayable};
use datafusion_proto::bytes::{physical_plan_from_bytes, physical_plan_to_bytes};
use meshwork_engine::catalog::{CatalogDefinition, CatalogRegistry};
use meshwork_engine::connector::{Connector, ReadVersion};
use meshwork_engine::scope::QueryScope;
use meshwork_engine::settings::QuerySettings;
use meshwork_engine::{Error, Result, functions};

/// The catalogs of one test.
pub(crate) struct Catalogs {
    registry: CatalogRegistry,
    pub(crate) settings: QuerySettings,
    /// The version that queries read.
    pub(crate) version: ReadVersion,
}

impl Catalogs {
    pub(crate) fn new() -> Self {
        let registry =
            CatalogRegistry::new(meshwork_connectors::make, Arc::new(RuntimeEnv::default()));
        // Tiny batches, so that their borders are met.
        let mut settings = QuerySettings::default();
        settings.batch_size = 7;
        Self { registry, settings, version: ReadVersion::Committed }
    }

    pub(crate) fn define(&self, name: &str, kind: &str, properties: &[(&str, &str)]) {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        self.registry.define(CatalogDefinition {
            name: name.to_owned(),
            kind: kind.to_owned(),
            properties: properties.iter().map(owned).collect::<BTreeMap<_, _>>(),
        });
    }

    pub(crate) fn connector(&self, name: &str) -> Arc<dyn Connector> {
        self.registry.connector(name).unwrap()
    }

    /// Why a catalog's connector could not be made.
    pub(crate) fn refusal(&self, name: &str) -> Error {
        self.registry.connector(name).map(|_made| ()).unwrap_err()
    }

    /// Runs a statement; its tables are named `catalog.schema.table`.
    pub(crate) async fn run(&self, sql: &str) -> Result<Vec<RecordBatch>> {
        let context = self.context(sql).await?;
        let plan = context.state().create_logical_plan(sql).await?;
        Ok(context.execute_logical_plan(plan).await?.collect().await?)
    }

    /// Runs a query after its plan has made the trip to a worker: as bytes that know no connector.
    pub(crate) async fn run_shipped(&self, sql: &str) -> Result<Vec<RecordBatch>> {
        let (plan, context) = self.planned(sql).await?;
        let shipped =
            physical_plan_from_bytes(&physical_plan_to_bytes(plan)?, &context.task_ctx())?;
        Ok(collect(shipped, context.task_ctx()).await?)
    }

    /// The physical plan of a query, and the session that runs it.
    async fn planned(&self, sql: &str) -> Result<(Arc<dyn ExecutionPlan>, SessionContext)> {
        let context = self.context(sql).await?;
        let plan = context.state().create_logical_plan(sql).await?;
        Ok((context.state().create_physical_plan(&plan).await?, context))
    }

    /// The rows of a query as an aligned table, without its frame.
    pub(crate) async fn rows(&self, sql: &str) -> Vec<String> {
        Self::text_of(&self.run(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}")))
    }

    /// The rows of a query that [`Self::run_shipped`] ran.
    pub(crate) async fn rows_shipped(&self, sql: &str) -> Vec<String> {
        Self::text_of(&self.run_shipped(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}")))
    }

    fn text_of(batches: &[RecordBatch]) -> Vec<String> {
        let table = pretty_format_batches(batches).unwrap().to_string();
        let rows = table.lines().filter(|line| line.starts_with('|')).skip(1);
        let cells = |row: &str| {
            let cells = row.trim_matches('|').split('|').map(str::trim);
            cells.collect::<Vec<_>>().join("|")
        };
        rows.map(cells).collect()
    }

    pub(crate) async fn error(&self, sql: &str) -> Error {
        match self.run(sql).await {
            Ok(batches) => panic!("{sql} answered {} batches", batches.len()),
            Err(error) => error,
        }
    }

    /// How many bytes of files a query reads.
    pub(crate) async fn bytes_read(&self, sql: &str) -> usize {
        fn of(plan: &Arc<dyn ExecutionPlan>) -> usize {
            let metrics = plan.metrics().and_then(|metrics| metrics.sum_by_name("bytes_scanned"));
            let own = metrics.map_or(0, |bytes| bytes.as_usize());
            own + plan.children().into_iter().map(of).sum::<usize>()
        }
        let (plan, context) = self.planned(sql).await.unwrap();
        collect(Arc::clone(&plan), context.task_ctx()).await.unwrap();
        of(&plan)
    }

    /// The physical plan of a query as text.
    pub(crate) async fn plan(&self, sql: &str) -> String {
        let (plan, _context) = self.planned(sql).await.unwrap();
        displayable(plan.as_ref()).indent(true).to_string()
    }

    /// A session that knows the tables of a statement.
    pub(crate) async fn context(&self, sql: &str) -> Result<SessionContext> {
        let mut config = SessionConfig::new().with_target_partitions(3).with_batch_size(7);
        config.options_mut().extensions.insert(self.settings.clone());
        let runtime = Arc::clone(self.registry.runtime());
        let builder = SessionStateBuilder::new()
            .with_default_features()
            .with_config(config)
            .with_runtime_env(runtime);
        let context = SessionContext::new_with_state(functions::register(builder).build());
        let scope = QueryScope::new(self.settings.clone());
        let state = context.state();
        let statement = state.sql_to_statement(sql, &state.config_options().sql_parser.dialect)?;
        for name in state.resolve_table_references(&statement)? {
            let name = name.resolve("none", "none");
            let connector = self.registry.connector(&name.catalog)?;
            let found = connector.table(&name.schema, &name.table, self.version, &scope).await?;
            let Some(table) = found else { continue };
            let catalog = context.catalog(&name.catalog).unwrap_or_else(|| {
                let catalog: Arc<dyn CatalogProvider> = Arc::new(MemoryCatalogProvider::new());
                context.register_catalog(name.catalog.to_string(), Arc::clone(&catalog));
                catalog
            });
            let schema = catalog.schema(&name.schema).unwrap_or_else(|| {
                let schema: Arc<dyn SchemaProvider> = Arc::new(MemorySchemaProvider::new());
                catalog.register_schema(&name.schema, Arc::clone(&schema)).unwrap();
                schema
            });
            schema.register_table(name.table.to_string(), table)?;
        }
        Ok(context)
    }
}
