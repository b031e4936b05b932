//! Answers the runtime's three questions: how many tasks a node can have, which part of a leaf each task
//! reads, and which worker runs it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use datafusion::catalog::memory::DataSourceExec;
use datafusion::common::Result;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfig};
use datafusion::execution::config::SessionConfig;
use datafusion::physical_expr::Partitioning;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use datafusion_distributed::{
    BroadcastExec, DesiredTaskCountEvent, DesiredTaskCountEventResponse, DistributedConfig,
    DistributedGetterExt, DistributedLeafExec, NetworkBoundaryExt, RouteTasksEvent,
    RouteTasksEventResponse, ScaleUpLeafNodeEvent, ScaleUpLeafNodeEventResponse,
};
use meshwork_engine::connector::Split;
use meshwork_engine::remote::RemoteScanExec;
use url::Url;

use super::spread::{Spread, spread_of};

/// How many tasks a node can have: as many as splits for a scan of a row source, by its bytes for a scan of files, one
/// for whatever needs all rows together; the runtime's own answer otherwise.
pub(super) fn task_count(
    event: DesiredTaskCountEvent<'_>,
) -> Option<Result<DesiredTaskCountEventResponse>> {
    let node = event.plan;
    let alone = Some(Ok(DesiredTaskCountEventResponse::maximum(1)));
    if node.children().is_empty() {
        if node.fetch().is_some() && node.output_partitioning().partition_count() == 1 {
            return alone;
        }
        let n_tasks = match node.downcast_ref::<RemoteScanExec>() {
            Some(scan) => scan.splits().count(),
            None => n_tasks_for_bytes(bytes_of_files(node)?, event.session_config).ok()?,
        };
        return Some(Ok(DesiredTaskCountEventResponse::desired(n_tasks.max(1))));
    }
    if is_exchange(node.as_ref()) {
        return None;
    }
    let children: Vec<Spread> = node.children().into_iter().map(planned_spread).collect();
    match spread_of(node.as_ref(), &children) {
        Ok(_) => None,
        Err(_needs_one_task) => alone,
    }
}

/// Returns the bytes that a scan of files reads: of the columns that are asked for where their sizes are known, as wide
/// files may hold little of a query.
fn bytes_of_files(node: &Arc<dyn ExecutionPlan>) -> Option<usize> {
    let source = node.downcast_ref::<DataSourceExec>()?;
    let scan = source.data_source().downcast_ref::<FileScanConfig>()?;
    let files = scan.file_groups.iter().flat_map(FileGroup::iter);
    let whole: u64 = files.map(PartitionedFile::effective_size).sum();
    let whole = usize::try_from(whole).unwrap_or(usize::MAX);
    let statistics =
        StatisticsContext::default().compute(node.as_ref(), &StatisticsArgs::default()).ok();
    let columns = statistics.and_then(|statistics| {
        let sizes = statistics.column_statistics.iter().map(|c| c.byte_size.get_value().copied());
        sizes.sum::<Option<usize>>()
    });
    Some(columns.map_or(whole, |columns| columns.min(whole)))
}

fn n_tasks_for_bytes(bytes: usize, config: &SessionConfig) -> Result<usize> {
    let per_partition = DistributedConfig::from_session_config(config)?;
    let n_partitions = bytes.div_ceil(per_partition.file_scan_config_bytes_per_partition.max(1));
    Ok(n_partitions.div_ceil(config.target_partitions().max(1)))
}

/// How rows will lie once the runtime has put its exchanges in.
fn planned_spread(node: &Arc<dyn ExecutionPlan>) -> Spread {
    let children: Vec<Spread> = node.children().into_iter().map(planned_spread).collect();
    if let Some(repartition) = node.downcast_ref::<RepartitionExec>()
        && matches!(repartition.partitioning(), Partitioning::Hash(..))
    {
        return Spread::Hashed;
    }
    if node.is::<BroadcastExec>() {
        return Spread::Copied;
    }
    if is_exchange(node.as_ref()) {
        return match children.as_slice() {
            [Spread::Copied] => Spread::Copied,
            _ => Spread::Whole,
        };
    }
    match children.as_slice() {
        [] => Spread::Dealt,
        children => spread_of(node.as_ref(), children).unwrap_or(Spread::Whole),
    }
}

/// Nodes at which the runtime cuts.
fn is_exchange(node: &dyn ExecutionPlan) -> bool {
    let by_hash = node
        .downcast_ref::<RepartitionExec>()
        .is_some_and(|node| matches!(node.partitioning(), Partitioning::Hash(..)));
    by_hash || node.is::<BroadcastExec>() || (merges(node) && node.fetch().is_none())
}

fn merges(node: &dyn ExecutionPlan) -> bool {
    node.is::<CoalescePartitionsExec>() || node.is::<SortPreservingMergeExec>()
}

/// Deals a leaf out over the tasks of its stage: each split, file or piece of a file to exactly one.
pub(super) fn deal(
    event: ScaleUpLeafNodeEvent<'_>,
) -> Option<Result<ScaleUpLeafNodeEventResponse>> {
    let variants = if let Some(scan) = event.plan.downcast_ref::<RemoteScanExec>() {
        Ok(deal_splits(scan, event.task_count))
    } else {
        let source = event.plan.downcast_ref::<DataSourceExec>()?;
        let files = source.data_source().downcast_ref::<FileScanConfig>()?;
        deal_files(files, event.plan.output_partitioning().partition_count(), event.task_count)
    };
    let leaf = variants
        .and_then(|variants| DistributedLeafExec::try_new(Arc::clone(event.plan), variants))
        .map(|leaf| ScaleUpLeafNodeEventResponse::new(Arc::new(leaf)));
    Some(leaf)
}

fn deal_splits(scan: &RemoteScanExec, n_tasks: usize) -> Vec<Arc<dyn ExecutionPlan>> {
    let splits: Vec<&Split> = scan.splits().collect();
    let n_partitions = splits.len().div_ceil(n_tasks).max(1);
    let variant = |task: usize| {
        let mut groups = vec![Vec::new(); n_partitions];
        let mine = splits.iter().skip(task).step_by(n_tasks);
        for (group, split) in groups.iter_mut().zip(mine) {
            group.push((*split).clone());
        }
        Arc::new(scan.part(groups)) as Arc<dyn ExecutionPlan>
    };
    (0..n_tasks).map(variant).collect()
}

fn deal_files(
    scan: &FileScanConfig,
    n_partitions: usize,
    n_tasks: usize,
) -> Result<Vec<Arc<dyn ExecutionPlan>>> {
    let n_groups = n_partitions * n_tasks;
    let order = scan.output_ordering.first().cloned();
    // Only the format knows whether its files may be cut: compressed ones, or CSV with line breaks in
    // values, may not.
    let cut = scan.file_source.repartitioned(n_groups, 0, order, scan)?;
    let groups = match cut {
        Some(cut) => cut.file_groups,
        None if scan.output_ordering.is_empty() => deal_whole_files(scan, n_groups),
        None => scan.file_groups.clone(),
    };
    let n_partitions = groups.len().div_ceil(n_tasks).max(1);
    let variant = |task: usize| {
        let mut mine: Vec<FileGroup> = groups.iter().skip(task).step_by(n_tasks).cloned().collect();
        mine.resize(n_partitions, FileGroup::default());
        let mut part = scan.clone();
        part.file_groups = mine;
        DataSourceExec::from_data_source(part) as Arc<dyn ExecutionPlan>
    };
    Ok((0..n_tasks).map(variant).collect())
}

fn deal_whole_files(scan: &FileScanConfig, n_groups: usize) -> Vec<FileGroup> {
    let mut groups = vec![Vec::new(); n_groups];
    let files = scan.file_groups.iter().flat_map(FileGroup::iter);
    for (index, file) in files.enumerate() {
        groups[index % n_groups].push(file.clone());
    }
    groups.into_iter().map(FileGroup::new).collect()
}

/// Gives tasks that read the same files to the same workers, query after query, so that what a worker has
/// read before is read there again; every worker gets its fair share.
pub(super) fn route(event: RouteTasksEvent<'_>) -> Option<Result<RouteTasksEventResponse>> {
    let leaf = first_leaf(event.plan)?;
    let leaf = leaf.downcast_ref::<DistributedLeafExec>()?;
    if leaf.variants().len() != event.task_count {
        return None;
    }
    let resolver = event.task_ctx.session_config().get_distributed_worker_resolver();
    let workers = match resolver.and_then(|resolver| resolver.get_urls()) {
        Ok(workers) if workers.is_empty() => return None,
        Ok(workers) => workers,
        Err(error) => return Some(Err(error)),
    };
    let read: Vec<String> = leaf.variants().iter().map(what_it_reads).collect();
    Some(Ok(RouteTasksEventResponse::new(assign(&read, &workers))))
}

/// Rendezvous hashing with a bound: each task goes to its best-scored worker that still has room.
fn assign(read: &[String], workers: &[Url]) -> Vec<Url> {
    let room = read.len().div_ceil(workers.len());
    let mut given = vec![0; workers.len()];
    let mut assigned = Vec::with_capacity(read.len());
    for what in read {
        let free = (0..workers.len()).filter(|index| given[*index] < room);
        if let Some(best) = free.max_by_key(|index| score(what, &workers[*index])) {
            given[best] += 1;
            assigned.push(workers[best].clone());
        }
    }
    assigned
}

fn score(what: &str, worker: &Url) -> u64 {
    let mut hasher = DefaultHasher::new();
    (what, worker.as_str()).hash(&mut hasher);
    hasher.finish()
}

fn what_it_reads(variant: &Arc<dyn ExecutionPlan>) -> String {
    if let Some(scan) = variant.downcast_ref::<RemoteScanExec>() {
        let first = scan.splits().next().map(|split| split.description.as_str());
        return format!("{} {}", scan.scan().display_name(), first.unwrap_or_default());
    }
    let files = variant
        .downcast_ref::<DataSourceExec>()
        .and_then(|source| source.data_source().downcast_ref::<FileScanConfig>());
    let first = files.and_then(|scan| scan.file_groups.iter().flat_map(FileGroup::iter).next());
    first.map_or_else(String::new, |file| {
        let start = file.range.as_ref().map_or(0, |range| range.start);
        format!("{} {start}", file.object_meta.location)
    })
}

/// The first leaf of a stage, not looking into the stages below.
fn first_leaf(plan: &Arc<dyn ExecutionPlan>) -> Option<&Arc<dyn ExecutionPlan>> {
    if plan.is_network_boundary() {
        return None;
    }
    match plan.children().as_slice() {
        [] => Some(plan),
        children => children.iter().copied().find_map(first_leaf),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_worker_gets_its_share_and_most_tasks_stay_when_one_leaves() {
        let worker = |port: usize| Url::parse(&format!("http://w:{port}/")).expect("an address");
        let workers: Vec<Url> = (1..=4).map(worker).collect();
        let read: Vec<String> = (0..8).map(|index| format!("file-{index}")).collect();
        let before = assign(&read, &workers);
        for worker in &workers {
            assert_eq!(before.iter().filter(|url| *url == worker).count(), 2);
        }
        assert_eq!(before, assign(&read, &workers), "the same every time");
        let after = assign(&read, &workers[..3]);
        assert_eq!(after.len(), read.len());
        let stayed = before.iter().zip(&after).filter(|(a, b)| a == b).count();
        assert!(stayed >= 3, "{stayed} of 8 stayed");
    }
}
