//! The plan of one scan: prune, read, filter, merge, project.
//!
//! ```text
//! UnionExec                 if there are both
//!   ProjectionExec          the columns asked for, in their order
//!     FilterExec            rows that were deleted, where there are some
//!       merge               files of which a key can stand in another one too
//!         FilterExec        what may go below the merge
//!           DataSourceExec  Parquet; files that cannot match are gone
//!   ProjectionExec
//!     FilterExec            files whose keys stand nowhere else: nothing to merge
//!       DataSourceExec
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::stats::Precision;
use datafusion::common::{
    DFSchema, DataFusionError, Result as DataFusionResult, ScalarValue, Statistics,
};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchemaBuilder;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, Operator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column as PhysicalColumn, binary, cast, col, lit};
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::union::UnionExec;
use meshwork_engine::Error;
use meshwork_engine::statistics::TableStatistics;
use meshwork_store::{
    Column, ColumnRole, Database, Error as StoreError, FileEntry, TableSnapshot, ValueFunction,
};
use object_store::ObjectMeta;
use object_store::path::Path;

use super::errors;
use super::merge::{VERSION_COLUMN, merge};
use super::prune::{Overlap, by_overlap, prune};
use super::table::field;

/// The closing bytes of a Parquet file: length of the footer, magic.
const TRAILER_BYTES: u64 = 8;

/// Where rows are read from.
pub(super) struct Source<'a> {
    pub(super) database: &'a Database,
    pub(super) url: &'a ObjectStoreUrl,
    pub(super) table: &'a TableSnapshot,
    /// What `ANALYZE` kept of the table.
    pub(super) kept: Option<Arc<TableStatistics>>,
    /// The catalog, for messages.
    pub(super) catalog: &'a str,
}

/// One scan as the planner asks for it.
pub(super) struct Scan<'a> {
    pub(super) source: Source<'a>,
    /// All columns, in the order of `SELECT *`.
    pub(super) schema: &'a SchemaRef,
    /// The columns asked for.
    pub(super) projection: Vec<usize>,
    /// Filters that may go below the merge.
    pub(super) filters: &'a [Expr],
    pub(super) limit: Option<usize>,
}

/// What is read of files.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// Columns by their present names.
    pub(super) names: &'a [&'a str],
    /// Whether each row's version is, as [`VERSION_COLUMN`].
    pub(super) with_version: bool,
    /// How many rows are enough.
    pub(super) limit: Option<usize>,
}

impl Source<'_> {
    fn failed(&self, error: &StoreError) -> DataFusionError {
        errors::of(self.catalog, error).into()
    }
}

/// Returns the plan.
pub(super) fn plan(
    scan: &Scan<'_>,
    state: &dyn Session,
) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
    let def = scan.source.table.def();
    let output = Arc::new(scan.schema.project(&scan.projection)?);
    let filter = conjunction(scan.filters.iter().cloned());
    let files = files_of(scan.source.table, scan.schema, scan.filters, state)?;
    let overlap = match def.kind.folds() {
        false => Overlap { shared: Vec::new(), alone: files },
        true => by_overlap(files),
    };
    let mut parts = Vec::new();
    if !overlap.shared.is_empty() {
        let merged = part(scan, overlap.shared, Keys::Shared, filter.as_ref(), state)?;
        parts.push(project(merged, &output)?);
    }
    if !overlap.alone.is_empty() {
        let plain = part(scan, overlap.alone, Keys::Alone, filter.as_ref(), state)?;
        parts.push(project(plain, &output)?);
    }
    match parts.pop() {
        None => Ok(Arc::new(EmptyExec::new(output))),
        Some(only) if parts.is_empty() => Ok(only),
        Some(last) => {
            parts.push(last);
            UnionExec::try_new(parts)
        }
    }
}

/// Returns the files of a table that may hold rows that pass all filters.
pub(super) fn files_of(
    table: &TableSnapshot,
    schema: &SchemaRef,
    filters: &[Expr],
    state: &dyn Session,
) -> DataFusionResult<Vec<Arc<FileEntry>>> {
    let Some(filter) = conjunction(filters.iter().cloned()) else { return Ok(table.files()) };
    let filter = physical(&filter, schema, state)?;
    Ok(prune(table.def(), table.files(), &filter, schema))
}

/// Whether keys can stand in several of the files of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keys {
    Shared,
    Alone,
}

/// Returns the rows of some files that pass the filter, one per key, with at least the columns asked for.
fn part(
    scan: &Scan<'_>,
    files: Vec<Arc<FileEntry>>,
    keys: Keys,
    filter: Option<&Expr>,
    state: &dyn Session,
) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
    let deleted =
        scan.source.table.def().deleted.as_ref().filter(|column| may_hold(&files, column));
    let columns = columns_to_read(scan, keys, filter, deleted, state)?;
    let with_version =
        keys == Keys::Shared && columns.values.iter().any(|(_, function)| function.is_ordered());
    let reads_all = keys == Keys::Alone && filter.is_none() && deleted.is_none();
    let limit = if reads_all { scan.limit } else { None };
    let wanted = Wanted { names: &columns.names, with_version, limit };
    let mut plan = read(&scan.source, files, wanted, state)?;
    if let Some(filter) = filter {
        let on_read = physical(filter, &plan.schema(), state)?;
        plan = Arc::new(FilterExec::try_new(on_read, plan)?);
    }
    if keys == Keys::Shared {
        plan = merge(scan.source.table.def(), &columns.values, plan, state)?;
    }
    if let Some(deleted) = deleted {
        let is_there = col(&deleted.name, &plan.schema())?;
        let is_there = binary(is_there, Operator::IsDistinctFrom, lit(true), &plan.schema())?;
        plan = Arc::new(FilterExec::try_new(is_there, plan)?);
    }
    Ok(plan)
}

/// Whether a value of a column stands in one of the files.
fn may_hold(files: &[Arc<FileEntry>], column: &Column) -> bool {
    let has_values =
        |file: &FileEntry| file.stats.get(&column.name).is_none_or(|stats| stats.nulls < file.rows);
    files.iter().any(|file| has_values(file))
}

pub(super) fn physical(
    filter: &Expr,
    schema: &SchemaRef,
    state: &dyn Session,
) -> DataFusionResult<Arc<dyn PhysicalExpr>> {
    state.create_physical_expr(filter.clone(), &DFSchema::try_from(Arc::clone(schema))?)
}

/// What a scan has to read.
struct Columns<'a> {
    /// Names, in the order of files.
    names: Vec<&'a str>,
    /// Value columns among them, with their functions.
    values: Vec<(&'a str, ValueFunction)>,
}

fn columns_to_read<'a>(
    scan: &Scan<'a>,
    keys: Keys,
    filter: Option<&Expr>,
    deleted: Option<&Column>,
    state: &dyn Session,
) -> DataFusionResult<Columns<'a>> {
    let mut wanted: Vec<usize> = scan.projection.clone();
    if let Some(filter) = filter {
        let filter = physical(filter, scan.schema, state)?;
        wanted.extend(collect_columns(&filter).iter().map(PhysicalColumn::index));
    }
    let is_wanted = |name: &str| {
        let is_asked_for = wanted.iter().any(|index| scan.schema.field(*index).name() == name);
        is_asked_for || deleted.is_some_and(|deleted| deleted.name == name)
    };
    let mut columns = Columns { names: Vec::new(), values: Vec::new() };
    for column in scan.source.table.def().file_columns() {
        let name = column.name.as_str();
        let needed = match column.role {
            // Rows are merged by the whole key, whatever of it is asked for.
            ColumnRole::Key => keys == Keys::Shared || is_wanted(name),
            ColumnRole::Value(_) | ColumnRole::Plain => is_wanted(name),
        };
        if needed {
            columns.names.push(name);
            if let ColumnRole::Value(function) = column.role {
                columns.values.push((name, function));
            }
        }
    }
    Ok(columns)
}

/// Reads files. Those of earlier definitions are read as such, and their columns then called, typed and filled as they are
/// now.
pub(super) fn read(
    source: &Source<'_>,
    files: Vec<Arc<FileEntry>>,
    wanted: Wanted<'_>,
    state: &dyn Session,
) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
    let def = source.table.def();
    let mut by_schema: BTreeMap<u32, Vec<Arc<FileEntry>>> = BTreeMap::new();
    for file in files {
        by_schema.entry(file.schema).or_default().push(file);
    }
    let mut parts = Vec::with_capacity(by_schema.len());
    for (schema, files) in by_schema {
        let Some(columns) = def.columns_of(schema) else {
            let message = format!("files follow an unknown definition {schema} of a table");
            return Err(Error::internal(message).into());
        };
        let written = Written { files, columns };
        parts.push(if schema == def.schema {
            written.read(source, wanted, state)?
        } else {
            written.read_as_now(source, wanted, state)?
        });
    }
    match parts.pop() {
        Some(only) if parts.is_empty() => Ok(only),
        last => {
            parts.extend(last);
            UnionExec::try_new(parts)
        }
    }
}

/// Files of one definition.
struct Written<'a> {
    files: Vec<Arc<FileEntry>>,
    /// Their columns.
    columns: Vec<&'a Column>,
}

impl Written<'_> {
    /// Reads columns by their names now.
    fn read_as_now(
        &self,
        source: &Source<'_>,
        wanted: Wanted<'_>,
        state: &dyn Session,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let def = source.table.def();
        let columns: Vec<&Column> =
            wanted.names.iter().filter_map(|name| def.column(name)).collect();
        let there = |column: &Column| self.columns.iter().find(|there| there.id == column.id);
        let names_there: Vec<&str> =
            columns.iter().filter_map(|column| Some(there(column)?.name.as_str())).collect();
        let plan = self.read(source, Wanted { names: &names_there, ..wanted }, state)?;
        let schema = plan.schema();
        let mut now: Vec<(Arc<dyn PhysicalExpr>, String)> = Vec::with_capacity(columns.len() + 1);
        for column in columns {
            let data_type = column.column_type.to_arrow();
            let value = match there(column) {
                Some(there) => cast(col(&there.name, &schema)?, &schema, data_type)?,
                None => {
                    let value = column.default_array().map_err(|e| source.failed(&e))?;
                    lit(ScalarValue::try_from_array(&value, 0)?)
                }
            };
            now.push((value, column.name.clone()));
        }
        if wanted.with_version {
            now.push((col(VERSION_COLUMN, &schema)?, VERSION_COLUMN.to_owned()));
        }
        Ok(Arc::new(ProjectionExec::try_new(now, plan)?))
    }

    /// Reads columns by the names that they have in the files.
    fn read(
        &self,
        source: &Source<'_>,
        wanted: Wanted<'_>,
        state: &dyn Session,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let Wanted { names, with_version, limit } = wanted;
        let in_file: Vec<Field> = self.columns.iter().map(|column| field(column)).collect();
        let n_in_file = in_file.len();
        let version = Arc::new(Field::new(VERSION_COLUMN, DataType::UInt64, false));
        let version_columns = if with_version { vec![version] } else { Vec::new() };
        let columns = TableSchemaBuilder::new(Arc::new(Schema::new(in_file)))
            .with_table_partition_cols(version_columns)
            .build();
        let mut statistics = total(&self.files, columns.table_schema());
        if let Some(kept) = &source.kept {
            kept.fill(&mut statistics, columns.table_schema());
        }
        let to_read = |file: &Arc<FileEntry>| {
            let listed = partitioned_file(source.database, file);
            match with_version {
                true => listed.with_partition_values(vec![ScalarValue::UInt64(Some(file.v.hi.0))]),
                false => listed,
            }
        };
        let listed: Vec<PartitionedFile> = self.files.iter().map(to_read).collect();
        let groups = FileGroup::new(listed).split_files(state.config().target_partitions().max(1));
        let position = |name: &&str| self.columns.iter().position(|column| column.name == **name);
        let mut projection: Vec<usize> = names.iter().filter_map(position).collect();
        if with_version {
            projection.push(n_in_file);
        }
        // What passes a filter is few: the other columns are decoded for those rows only.
        let parquet = ParquetSource::new(columns).with_pushdown_filters(true);
        let config = FileScanConfigBuilder::new(source.url.clone(), Arc::new(parquet))
            .with_file_groups(groups)
            .with_statistics(statistics)
            .with_projection_indices(Some(projection))?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

fn partitioned_file(database: &Database, file: &FileEntry) -> PartitionedFile {
    let [_, footer] = file.footer;
    let meta = ObjectMeta {
        location: Path::clone(&database.object_path(&file.path)),
        // Names are never used twice, so one time serves for all caches.
        last_modified: chrono::DateTime::UNIX_EPOCH,
        size: file.bytes,
        e_tag: None,
        version: None,
    };
    let hint = usize::try_from(footer + TRAILER_BYTES).ok();
    let listed = PartitionedFile::new_from_meta(meta);
    match hint {
        Some(hint) => listed.with_metadata_size_hint(hint),
        None => listed,
    }
}

fn total(files: &[Arc<FileEntry>], schema: &SchemaRef) -> Statistics {
    let rows = files.iter().map(|file| file.rows).sum::<u64>();
    let mut statistics = Statistics::new_unknown(schema);
    if let Ok(rows) = usize::try_from(rows) {
        statistics.num_rows = Precision::Exact(rows);
    }
    statistics
}

/// Puts the columns into the order asked for.
fn project(
    plan: Arc<dyn ExecutionPlan>,
    output: &SchemaRef,
) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
    let have = plan.schema();
    let in_order = have.fields().iter().zip(output.fields()).all(|(a, b)| a.name() == b.name());
    if in_order && have.fields().len() == output.fields().len() {
        return Ok(plan);
    }
    let column = |field: &Arc<Field>| Ok((col(field.name(), &have)?, field.name().clone()));
    let columns: Vec<(Arc<dyn PhysicalExpr>, String)> =
        output.fields().iter().map(column).collect::<DataFusionResult<_>>()?;
    Ok(Arc::new(ProjectionExec::try_new(columns, plan)?))
}
