//! Rules of pushdown that were checked on queries of users, and those that made a wrong answer: they move nothing any more.
//!
//! Kept in memory: a coordinator that starts anew trusts all rules, and finds a wrong one again.

use std::collections::{BTreeMap, BTreeSet};

use meshwork_engine::environment::{self, Task};
use meshwork_engine::remote::{ALL_RULES, Rule, encoded_rules};
use parking_lot::Mutex;

use crate::history::QueryRecord;

/// Rules that are remembered; there are some thirty a catalog.
const RULES_MAX: usize = 10_000;

/// What is known of the rules.
#[derive(Debug, Default)]
pub struct Quarantine {
    rules: Mutex<BTreeMap<Rule, Record>>,
    /// The query that is being checked; there is one at a time.
    checking: Mutex<Option<Task<()>>>,
}

/// What is known of one rule.
#[derive(Debug, Clone, Default)]
pub(crate) struct Record {
    /// Queries whose rows were the same without pushdown.
    pub(crate) n_same: u64,
    /// The first whose rows were not.
    pub(crate) wrong: Option<Wrong>,
}

/// A query that a rule answered wrong.
#[derive(Debug, Clone)]
pub(crate) struct Wrong {
    pub(crate) query_id: String,
    pub(crate) sql: String,
    /// Microseconds since the Unix epoch.
    pub(crate) found_us: i64,
}

impl Quarantine {
    /// Returns the rules that are switched off, as a query's settings hold them.
    pub(crate) fn rules_off(&self) -> String {
        encoded_rules(&self.off())
    }

    pub(crate) fn off(&self) -> BTreeSet<Rule> {
        let rules = self.rules.lock();
        let wrong = rules.iter().filter(|(_, record)| record.wrong.is_some());
        wrong.map(|(rule, _)| rule.clone()).collect()
    }

    /// Returns all rules that were checked.
    pub(crate) fn records(&self) -> Vec<(Rule, Record)> {
        let rules = self.rules.lock();
        rules.iter().map(|(rule, record)| (rule.clone(), record.clone())).collect()
    }

    /// Notes that these rules answered a query as it is answered without them.
    pub(crate) fn same(&self, used: &BTreeSet<Rule>) {
        let mut rules = self.rules.lock();
        for rule in used {
            if rules.contains_key(rule) || rules.len() < RULES_MAX {
                rules.entry(rule.clone()).or_default().n_same += 1;
            }
        }
    }

    /// Switches a rule off. Without one that is to blame, all rules of these catalogs are.
    pub(crate) fn wrong(&self, rule: Option<Rule>, used: &BTreeSet<Rule>, record: &QueryRecord) {
        let all = |rule: &Rule| Rule { name: ALL_RULES.to_owned(), ..rule.clone() };
        let blamed: BTreeSet<Rule> = match rule {
            Some(rule) => BTreeSet::from([rule]),
            None => used.iter().map(all).collect(),
        };
        let mut rules = self.rules.lock();
        for rule in blamed {
            let QueryRecord { id: query_id, sql, .. } = record;
            tracing::error!(%rule, query_id, sql, "a rule of pushdown made a wrong answer, and is switched off");
            rules.entry(rule).or_default().wrong.get_or_insert_with(|| Wrong {
                query_id: query_id.clone(),
                sql: sql.clone(),
                found_us: environment::unix_micros(),
            });
        }
    }

    /// Begins a check, if none is running.
    pub(crate) fn check(&self, check: impl FnOnce() -> Task<()>) {
        let mut checking = self.checking.lock();
        if checking.as_ref().is_none_or(Task::is_finished) {
            *checking = Some(check());
        }
    }
}
