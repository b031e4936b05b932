//! Which files can hold rows that pass a filter, by the zone maps in the log. No file is opened for it.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray, UInt64Array};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, ScalarValue};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use meshwork_store::{ColumnStats, FileEntry, TableDef, stats};

/// Returns the files that can hold rows for which `filter` is true; all that it cannot tell of are among them.
pub(super) fn prune(
    def: &TableDef,
    files: Vec<Arc<FileEntry>>,
    filter: &Arc<dyn PhysicalExpr>,
    schema: &SchemaRef,
) -> Vec<Arc<FileEntry>> {
    let zone_maps = ZoneMaps { def, files: &files };
    let predicate = PruningPredicateBuilder::new()
        .with_file_schema(Arc::clone(schema))
        .try_build(Arc::clone(filter));
    let kept = predicate.and_then(|predicate| predicate.prune(&zone_maps));
    match kept {
        Ok(kept) => {
            files.into_iter().zip(kept).filter_map(|(file, kept)| kept.then_some(file)).collect()
        }
        Err(error) => {
            // The filter runs over the rows in any case.
            tracing::debug!(%error, table = def.full_name(), "files were not pruned");
            files
        }
    }
}

struct ZoneMaps<'a> {
    def: &'a TableDef,
    files: &'a [Arc<FileEntry>],
}

impl ZoneMaps<'_> {
    fn bounds(
        &self,
        column: &Column,
        bound: impl Fn(&ColumnStats) -> Option<&serde_json::Value>,
    ) -> Option<ArrayRef> {
        let column_type = &self.def.column(&column.name)?.column_type;
        let of_file = |file: &'_ Arc<FileEntry>| self.def.stats_of(file, &column.name);
        let of_files: Vec<Option<ColumnStats>> = self.files.iter().map(of_file).collect();
        let bounds: Vec<Option<&serde_json::Value>> =
            of_files.iter().map(|stats| stats.as_ref().and_then(&bound)).collect();
        stats::bounds_to_array(column_type, &bounds).ok()
    }
}

impl PruningStatistics for ZoneMaps<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, |stats| stats.min.as_ref())
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, |stats| stats.max.as_ref())
    }

    fn num_containers(&self) -> usize {
        self.files.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let nulls = |file: &Arc<FileEntry>| Some(self.def.stats_of(file, &column.name)?.nulls);
        Some(Arc::new(self.files.iter().map(nulls).collect::<UInt64Array>()))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(self.files.iter().map(|file| file.rows).collect::<UInt64Array>()))
    }

    fn contained(&self, _column: &Column, _values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

/// Files by whether a key of theirs can stand in another one too.
#[derive(Debug, Default)]
pub(super) struct Overlap {
    /// Rows of these have to be folded by key.
    pub(super) shared: Vec<Arc<FileEntry>>,
    /// Rows of these are as they will be: within a file each key stands once.
    pub(super) alone: Vec<Arc<FileEntry>>,
}

/// Sorts files by whether their key ranges overlap. Bounds in the log may be cut, but only outwards.
///
/// ```text
/// keys   a ───────────────────────────────► z
/// file 1   ├───────┤                          shared with 2
/// file 2        ├─────┤                       shared with 1
/// file 3                 ├──────┤             alone
/// ```
pub(super) fn by_overlap(files: Vec<Arc<FileEntry>>) -> Overlap {
    let bounds: Option<Vec<_>> = files.iter().map(|file| stats::key_bounds(file)).collect();
    let Some(bounds) = bounds else { return Overlap { shared: files, alone: Vec::new() } };
    let mut ranges: Vec<_> = bounds.into_iter().zip(files).collect();
    ranges.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut overlap = Overlap::default();
    let mut group: Vec<Arc<FileEntry>> = Vec::new();
    let mut group_end = Vec::new();
    for ((start, end), file) in ranges {
        if start > group_end {
            overlap.add(std::mem::take(&mut group));
        }
        group_end = group_end.max(end);
        group.push(file);
    }
    overlap.add(group);
    overlap
}

impl Overlap {
    fn add(&mut self, group: Vec<Arc<FileEntry>>) {
        let target = if group.len() == 1 { &mut self.alone } else { &mut self.shared };
        target.extend(group);
    }
}
