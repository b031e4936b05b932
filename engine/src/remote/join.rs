//! Two scans of one source that are joined there.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{RemoteColumn, RemoteScan};

/// What a join keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum JoinKind {
    /// Each pair of rows whose keys are equal.
    Inner,
    /// Each row of the left side whose keys some row of the right side has.
    Semi,
}

/// Two scans whose rows meet in their source. The left one is cut into splits, the right one is read whole for each of them:
/// so the splits together return each row once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Join {
    /// The side that splits are parts of.
    pub left: RemoteScan,
    /// The other side.
    pub right: RemoteScan,
    /// Pairs of columns that are equal, as indexes into what each side returns; NULL equals nothing.
    pub on: Vec<(usize, usize)>,
    /// What is kept.
    pub kind: JoinKind,
}

impl Join {
    /// Returns the names of the columns of both sides, left before right, no two alike whatever letters a source takes for
    /// the same. A column keeps its own name where it can.
    pub fn names(&self) -> [Vec<String>; 2] {
        let (left, right) = (self.left.output(), self.right.output());
        let given = left.iter().chain(&right).map(|column| column.name.to_ascii_lowercase());
        let mut taken: BTreeSet<String> = given.collect();
        let mut seen = BTreeSet::new();
        let mut n_renamed = 0;
        let mut name = |column: &RemoteColumn| {
            if column.name.is_ascii() && seen.insert(column.name.to_ascii_lowercase()) {
                return column.name.clone();
            }
            loop {
                n_renamed += 1;
                let other = format!("c{n_renamed}");
                if taken.insert(other.clone()) {
                    return other;
                }
            }
        };
        [left.iter().map(&mut name).collect(), right.iter().map(&mut name).collect()]
    }
}

impl RemoteScan {
    /// Returns the scan of what a join returns: of all columns of both sides, or of the left one's.
    #[must_use]
    pub fn joined(join: Join) -> Self {
        let [left, right] = join.names();
        let renamed = |(column, name): (RemoteColumn, String)| RemoteColumn { name, ..column };
        let mut columns: Vec<_> = join.left.output().into_iter().zip(left).map(renamed).collect();
        if join.kind == JoinKind::Inner {
            columns.extend(join.right.output().into_iter().zip(right).map(renamed));
        }
        let table = format!("{} join {}", join.left.table, join.right.table);
        let whole = Self::whole(&join.left.catalog, &join.left.schema, &table, columns);
        let shared = join.left.shared.clone();
        Self { join: Some(Box::new(join)), shared, ..whole }
    }

    /// Returns the scan of the table that splits are parts of.
    pub fn base(&self) -> &Self {
        match &self.join {
            Some(join) => join.left.base(),
            None => self,
        }
    }
}
