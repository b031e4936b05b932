//! What an order of joins costs, and the cheapest (dynamic programming over connected sets, after Selinger et al., 1979, with
//! bushy trees).
//!
//! The unit is one row read from a file or looked up in a hash table. The other figures are how much longer something takes,
//! as orders of magnitude: what decides is nearly always how many rows cross the network.

use std::collections::BTreeMap;
use std::sync::Arc;

use meshwork_engine::settings::JOIN_KEYS_MAX_FOR_ROW_SOURCES;

use super::estimate::Estimate;
use super::graph::{Graph, Set, Tree};

/// A row that a source sends to us.
const MOVED: f64 = 20.0;
/// A row that a source looks at, or joins.
const LOOKED_AT: f64 = 3.0;
/// A row put into a hash table.
const BUILT: f64 = 3.0;

/// An order with what it costs.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) tree: Arc<Tree>,
    /// What it costs to have its rows here.
    pub(super) total: f64,
    /// What of it remains if the rows are needed in their source only.
    inside: f64,
    n_rows: f64,
    /// The catalog where the rows still are.
    catalog: Option<String>,
    /// Values of each class; `None` where no relation has a member.
    n_distinct: Vec<Option<f64>>,
}

/// The costs of the orders of one graph.
#[derive(Debug)]
pub(super) struct Costs<'a> {
    graph: &'a Graph,
    relations: Vec<Plan>,
    estimates: Vec<Estimate>,
}

impl<'a> Costs<'a> {
    /// Returns the costs by these estimates of the relations; `None` if there are no row sources among them.
    pub(super) fn new(graph: &'a Graph, estimates: Vec<Estimate>) -> Option<Self> {
        if estimates.iter().all(|estimate| estimate.catalog.is_none()) {
            return None;
        }
        let relations = estimates.iter().enumerate();
        let relations = relations.map(|(index, estimate)| relation(graph, index, estimate));
        Some(Self { graph, relations: relations.collect(), estimates })
    }

    /// Returns a given order with its costs; `None` if it joins what no equality connects.
    pub(super) fn of(&self, tree: &Tree) -> Option<Plan> {
        Some(self.of_tree(tree)?.1)
    }

    fn of_tree(&self, tree: &Tree) -> Option<(Set, Plan)> {
        match tree {
            Tree::Relation(index) => Some((1 << index, self.relations.get(*index)?.clone())),
            Tree::Join(left, right) => {
                let (left, right) = (self.of_tree(left)?, self.of_tree(right)?);
                let joined = self.joined((left.0, &left.1), (right.0, &right.1))?;
                Some((left.0 | right.0, joined))
            }
        }
    }

    /// Returns the cheapest order; `None` if the relations are not all connected.
    pub(super) fn best(&self) -> Option<Plan> {
        let all: Set = (1 << self.relations.len()) - 1;
        let mut best: BTreeMap<Set, Plan> = BTreeMap::new();
        for (index, relation) in self.relations.iter().enumerate() {
            best.insert(1 << index, relation.clone());
        }
        // Every part of a set is a smaller number than the set.
        for set in 1..=all {
            let mut left = (set - 1) & set;
            while left > 0 {
                let right = set & !left;
                // Each pair is met twice; one of both is enough.
                if left > right
                    && let (Some(a), Some(b)) = (best.get(&left), best.get(&right))
                    && let Some(joined) = self.joined((left, a), (right, b))
                    && best.get(&set).is_none_or(|known| joined.total < known.total)
                {
                    best.insert(set, joined);
                }
                left = (left - 1) & set;
            }
        }
        best.remove(&all)
    }

    fn joined(&self, left: (Set, &Plan), right: (Set, &Plan)) -> Option<Plan> {
        let ((left_set, left), (right_set, right)) = (left, right);
        let pairs = left.n_distinct.iter().zip(&right.n_distinct);
        let keys: Vec<(usize, f64, f64)> = pairs
            .enumerate()
            .filter_map(|(class, (left, right))| Some((class, (*left)?, (*right)?)))
            .collect();
        let divisor = match keys[..] {
            [] => return None,
            [(_, left, right)] => left.max(right),
            _ => {
                let left =
                    self.combined(left_set, keys.iter().map(|(class, left, _)| (*class, *left)));
                let right =
                    self.combined(right_set, keys.iter().map(|(class, _, right)| (*class, *right)));
                left.min(right)
            }
        };
        let n_rows = (left.n_rows * right.n_rows / divisor.max(1.0)).max(1.0);
        let n_distinct = left.n_distinct.iter().zip(&right.n_distinct);
        let n_distinct = n_distinct.map(|(left, right)| match (left, right) {
            (Some(left), Some(right)) => Some(left.min(*right)),
            (one, other) => one.or(*other),
        });
        let n_distinct = n_distinct.collect();
        let (small, large) =
            if left.n_rows <= right.n_rows { (left, right) } else { (right, left) };
        let here =
            small.total + self.read_by_keys(small, large, &keys) + small.n_rows * BUILT + n_rows;
        let is_plain = |(class, ..): &(usize, f64, f64)| {
            self.graph.classes().get(*class).is_some_and(|class| class.is_plain)
        };
        let catalog = left.catalog.clone().filter(|catalog| {
            right.catalog.as_ref() == Some(catalog)
                && keys.iter().all(is_plain)
                && n_rows <= left.n_rows + right.n_rows
        });
        let inside = left.inside + right.inside + (left.n_rows + right.n_rows + n_rows) * LOOKED_AT;
        let there = inside + n_rows * MOVED;
        let tree = Arc::new(Tree::Join(Arc::clone(&small.tree), Arc::clone(&large.tree)));
        let (total, catalog) = match catalog.filter(|_| there <= here) {
            Some(catalog) => (there, Some(catalog)),
            None => (here, None),
        };
        Some(Plan { tree, total, inside, n_rows, catalog, n_distinct })
    }

    /// Returns what it costs to have the rows of `large` here that the keys of `small` leave, and to look each up.
    fn read_by_keys(&self, small: &Plan, large: &Plan, keys: &[(usize, f64, f64)]) -> f64 {
        if large.catalog.is_none() {
            return large.total + large.n_rows;
        }
        let sent = keys.iter().filter_map(|(class, ..)| {
            let value = |plan: &Plan| plan.n_distinct.get(*class).copied().flatten();
            let n_keys = value(small)?.min(small.n_rows);
            (n_keys <= JOIN_KEYS_MAX_FOR_ROW_SOURCES as f64)
                .then_some((n_keys / value(large)?).min(1.0))
        });
        let n_rows = large.n_rows * sent.fold(1.0, f64::min);
        large.inside + n_rows * (MOVED + 1.0)
    }

    /// Returns how many combinations of values some classes have together: no more than a table has rows that has them all.
    fn combined(&self, set: Set, classes: impl Iterator<Item = (usize, f64)>) -> f64 {
        let classes: Vec<(usize, f64)> = classes.collect();
        let mut combined: f64 = classes.iter().map(|(_, n_distinct)| n_distinct).product();
        for (index, estimate) in self.estimates.iter().enumerate() {
            let has = |(class, _): &(usize, f64)| {
                let class = self.graph.classes().get(*class);
                class.is_some_and(|class| class.members.iter().any(|(of, _)| *of == index))
            };
            if set & (1 << index) != 0 && classes.iter().all(has) {
                combined = combined.min(estimate.n_rows_read);
            }
        }
        combined
    }
}

fn relation(graph: &Graph, index: usize, estimate: &Estimate) -> Plan {
    let value = |class: &super::graph::Class| {
        let member = class.members.iter().find(|(relation, _)| *relation == index);
        member.map(|(_, column)| estimate.values(column))
    };
    let (inside, total) = match &estimate.catalog {
        Some(_) => {
            let inside = estimate.n_rows_read * LOOKED_AT;
            (inside, inside + estimate.n_rows_moved * MOVED)
        }
        None => (estimate.n_rows_read, estimate.n_rows_read),
    };
    Plan {
        tree: Arc::new(Tree::Relation(index)),
        total,
        inside,
        n_rows: estimate.n_rows,
        catalog: estimate.catalog.clone(),
        n_distinct: graph.classes().iter().map(value).collect(),
    }
}
