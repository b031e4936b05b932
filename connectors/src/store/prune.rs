//! Which files can hold rows that pass a filter, by the zone maps in the log. No file is opened for it.

use std::collections::{BTreeSet, HashSet};
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
        let of_file = |file: &'_ Arc<FileEntry>| file.stats.get(&column.name).cloned();
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
        let nulls = |file: &Arc<FileEntry>| file.stats.get(&column.name).map(|stats| stats.nulls);
        Some(Arc::new(self.files.iter().map(nulls).collect::<UInt64Array>()))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(self.files.iter().map(|file| file.rows).collect::<UInt64Array>()))
    }

    fn contained(&self, _column: &Column, _values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

/// Says whether no key can stand in two of the files, so that there is nothing to merge.
///
/// Within a file each key stands once. Bounds in the log may be cut, but only outwards.
pub(super) fn keys_are_disjoint(files: &[Arc<FileEntry>]) -> bool {
    if files.len() < 2 {
        return true;
    }
    let mut ranges = BTreeSet::new();
    for file in files {
        let Some(bounds) = stats::key_bounds(file) else { return false };
        // Two files from the same key on overlap.
        if !ranges.insert(bounds) {
            return false;
        }
    }
    ranges.iter().zip(ranges.iter().skip(1)).all(|(before, after)| before.1 < after.0)
}
