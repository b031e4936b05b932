//! The rules by which work moves into sources, by name, so that one of them can be switched off for one catalog.
//!
//! An answer that differs with pushdown and without it was made by some rule: `verify_pushdown` finds out which, and it is
//! switched off from then on. A rule is as fine as what sources tell apart: a comparison of text is another one than a
//! comparison of numbers.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::DataType;
use datafusion::execution::SendableRecordBatchStream;
use tokio::sync::watch;
use url::form_urlencoded::{Serializer, parse};

use super::{
    Aggregate, JoinKind, Predicate, Reason, ReasonCode, RemoteColumn, RemoteScan, RowWriter,
};
use crate::Result;
use crate::connections::Wanted;
use crate::connector::{Outcome, Pushdown, RowSource, SnapshotScope, Split};
use crate::scope::QueryScope;
use crate::settings::QuerySettings;
use crate::statistics::TableStatistics;

/// A rule of one catalog.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// The catalog whose source follows it.
    pub catalog: String,
    /// Its name: `like(text)`, `aggregate(sum)`, `limit`.
    pub name: String,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of catalog \"{}\"", self.name, self.catalog)
    }
}

/// Returns rules as a text of ASCII letters, for settings, which travel in headers.
pub fn encoded(rules: &BTreeSet<Rule>) -> String {
    let pairs = rules.iter().map(|rule| (&rule.catalog, &rule.name));
    Serializer::new(String::new()).extend_pairs(pairs).finish()
}

fn decoded(text: &str) -> BTreeSet<Rule> {
    let pairs = parse(text.as_bytes());
    pairs.map(|(catalog, name)| Rule { catalog: catalog.into(), name: name.into() }).collect()
}

/// Returns the rules by which a scan came to be what it is.
pub fn rules_of(scan: &RemoteScan) -> BTreeSet<Rule> {
    let mut names = BTreeSet::new();
    let mut rules = BTreeSet::new();
    scan.filters.iter().for_each(|filter| of_predicate(filter, &scan.columns, &mut names));
    if let Some(aggregate) = &scan.aggregate {
        of_aggregate(aggregate, &scan.columns, &mut names);
    }
    if let Some(join) = &scan.join {
        names.insert(of_join(join.kind));
        rules.extend(rules_of(&join.left));
        rules.extend(rules_of(&join.right));
    }
    match (scan.order.is_empty(), scan.limit) {
        (false, _) => names.extend(["top".to_owned()]),
        (true, Some(_)) => names.extend(["limit".to_owned()]),
        (true, None) => {}
    }
    rules.extend(names.into_iter().map(|name| Rule { catalog: scan.catalog.clone(), name }));
    rules
}

/// Returns the rules by which keys of a join may narrow a scan while it runs.
pub fn rules_of_keys(scan: &RemoteScan) -> BTreeSet<Rule> {
    let mut names = BTreeSet::from(["or".to_owned()]);
    for column in &scan.columns {
        let class = class(&column.data_type);
        names.extend(["equal", "in", "range"].map(|what| format!("{what}({class})")));
    }
    names.into_iter().map(|name| Rule { catalog: scan.catalog.clone(), name }).collect()
}

fn of_offer(scan: &RemoteScan, offer: Pushdown<'_>) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    match offer {
        Pushdown::Filter(predicate) => of_predicate(predicate, &scan.columns, &mut names),
        Pushdown::Limit(_) => names.extend(["limit".to_owned()]),
        Pushdown::Top { .. } => names.extend(["top".to_owned()]),
        Pushdown::Aggregate(aggregate) => of_aggregate(aggregate, &scan.columns, &mut names),
        Pushdown::Join(join) => names.extend([of_join(join.kind)]),
    }
    names
}

fn of_predicate(predicate: &Predicate, columns: &[RemoteColumn], names: &mut BTreeSet<String>) {
    let of_column = |what: &str, column: usize| {
        let class = columns.get(column).map_or("unknown", |column| class(&column.data_type));
        format!("{what}({class})")
    };
    match predicate {
        Predicate::Compare { column, comparison, .. } => {
            let what = if comparison.is_range() { "range" } else { "equal" };
            names.insert(of_column(what, *column));
        }
        Predicate::In { column, .. } => _ = names.insert(of_column("in", *column)),
        Predicate::Null { column, .. } => _ = names.insert(of_column("null", *column)),
        Predicate::Like { column, .. } => _ = names.insert(of_column("like", *column)),
        Predicate::And(parts) => parts.iter().for_each(|part| of_predicate(part, columns, names)),
        Predicate::Or(parts) => {
            names.insert("or".to_owned());
            parts.iter().for_each(|part| of_predicate(part, columns, names));
        }
        Predicate::Not(part) => {
            names.insert("not".to_owned());
            of_predicate(part, columns, names);
        }
    }
}

fn of_aggregate(aggregate: &Aggregate, columns: &[RemoteColumn], names: &mut BTreeSet<String>) {
    for group in &aggregate.groups {
        let class = columns.get(group.column).map_or("unknown", |column| class(&column.data_type));
        names.insert(format!("group({class})"));
    }
    for measure in &aggregate.measures {
        names.insert(format!("aggregate({})", measure.function.sql("").trim_end_matches("()")));
        if let Some(filter) = &measure.filter {
            of_predicate(filter, columns, names);
        }
    }
}

fn of_join(kind: JoinKind) -> String {
    match kind {
        JoinKind::Inner => "join(inner)".to_owned(),
        JoinKind::Semi => "join(semi)".to_owned(),
    }
}

/// What sources tell apart.
fn class(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Dictionary(..) => {
            "text"
        }
        DataType::Boolean => "boolean",
        data_type if data_type.is_floating() => "float",
        data_type if data_type.is_numeric() => "number",
        data_type if data_type.is_temporal() => "time",
        data_type if data_type.is_binary() => "bytes",
        // Lists, structs and what else no source compares.
        _ => "other",
    }
}

/// Returns a source that refuses what the rules that are switched off would move; the source itself if there are none.
pub(crate) fn guarded(source: Arc<dyn RowSource>, settings: &QuerySettings) -> Arc<dyn RowSource> {
    match settings.rules_off.is_empty() {
        true => source,
        false => Arc::new(Guarded { source, off: decoded(&settings.rules_off) }),
    }
}

/// A source some of whose rules are switched off.
#[derive(Debug)]
struct Guarded {
    source: Arc<dyn RowSource>,
    off: BTreeSet<Rule>,
}

impl Guarded {
    fn is_off(&self, scan: &RemoteScan, name: &str) -> bool {
        let rule = |name: &str| Rule { catalog: scan.catalog.clone(), name: name.to_owned() };
        self.off.contains(&rule(name)) || self.off.contains(&rule(ALL))
    }
}

/// The name that stands for all rules of a catalog.
pub const ALL: &str = "all";

#[async_trait]
impl RowSource for Guarded {
    fn negotiate(&self, scan: &RemoteScan, offer: Pushdown<'_>) -> Outcome {
        match of_offer(scan, offer).iter().find(|name| self.is_off(scan, name)) {
            None => self.source.negotiate(scan, offer),
            Some(name) => {
                let message = format!("rule {name} has made a wrong answer in this catalog");
                Outcome::Refused(Reason::new(ReasonCode::Quarantined, message))
            }
        }
    }

    async fn statistics(
        &self,
        whole: &RemoteScan,
        scope: &Arc<QueryScope>,
    ) -> Result<TableStatistics> {
        self.source.statistics(whole, scope).await
    }

    async fn splits(
        &self,
        scan: RemoteScan,
        scope: &Arc<QueryScope>,
        settings: &QuerySettings,
    ) -> Result<(RemoteScan, Vec<Split>)> {
        self.source.splits(scan, scope, settings).await
    }

    fn recut(&self, scan: &RemoteScan, splits: Vec<Split>) -> Vec<Split> {
        self.source.recut(scan, splits)
    }

    fn open(
        &self,
        scan: &RemoteScan,
        split: &Split,
        settings: &QuerySettings,
    ) -> Result<SendableRecordBatchStream> {
        self.source.open(scan, split, settings)
    }

    fn wanted(&self) -> Option<watch::Receiver<Wanted>> {
        self.source.wanted()
    }

    fn snapshot(&self) -> SnapshotScope {
        self.source.snapshot()
    }

    fn describe(&self, scan: &RemoteScan, split: &Split) -> String {
        self.source.describe(scan, split)
    }

    fn writer(&self, table: &RemoteScan) -> Result<Arc<dyn RowWriter>> {
        self.source.writer(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_come_back_from_their_text_whatever_catalogs_are_called() {
        let rule = |catalog: &str, name: &str| Rule { catalog: catalog.into(), name: name.into() };
        let rules = BTreeSet::from([rule("pg", "like(text)"), rule("a&b=ü", "limit")]);
        let text = encoded(&rules);
        assert!(text.is_ascii() && !text.contains(['\n', ' ']), "{text}");
        assert_eq!(decoded(&text), rules);
        assert_eq!(decoded(""), BTreeSet::new());
    }
}
