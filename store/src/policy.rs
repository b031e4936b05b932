//! When deltas are merged: a policy as plain data, and the next merge that it asks for.
//!
//! A policy looks at the deltas that the newest version is read from, oldest first. Each has a level: 0 is an update, a
//! merge of one level is one of the next, and the base, the oldest delta, is above all.
//!
//! ```text
//! TwoLevel { every: 10 }   base │ 1: the 40 since the base, made again with each 10 new ones │ 0 0 0
//! Tiered { fan_out: 4 }    base │ 2 2 │ 1 1 1 │ 0 0 0          four of one level make one of the next
//! Adaptive                 Tiered { 4 } where updates share keys, else Tiered { 8 }
//! ```
//!
//! Mesa's own policy is the two-level one ("Mesa: Geo-Replicated, Near Real-Time, Scalable Data Warehousing", section
//! 2.3). It writes the rows since the base again and again; tiers write each row once per level.

use serde::{Deserialize, Serialize};

use crate::log::deltas::{Delta, DeltaId, PRIMARY};
use crate::version::VersionRange;

/// Fan-out where updates share many keys: what is merged is small.
const FAN_OUT_SHARED: usize = 4;

/// Fan-out where they share few.
const FAN_OUT_DISJOINT: usize = 8;

/// Below this share of their keys, updates share many.
const SHARED_BELOW: f64 = 0.7;

/// The level of a base.
pub const BASE_LEVEL: u32 = u32::MAX;

/// How deltas are gathered between two bases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tiers {
    /// One delta over all updates since the base, made again with every so many new ones.
    TwoLevel {
        /// How many updates.
        every: usize,
    },
    /// So many deltas of one level make one of the next.
    Tiered {
        /// How many deltas.
        fan_out: usize,
    },
    /// Tiers whose fan-out follows from how many keys the updates share.
    Adaptive,
}

/// When deltas are merged.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// How they are gathered.
    pub tiers: Tiers,
    /// A new base is made when all others together have this share of its rows.
    pub base_ratio: f64,
    /// More deltas than these are merged whatever the tiers say.
    pub fan_in_max: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self { tiers: Tiers::Adaptive, base_ratio: 0.3, fan_in_max: 24 }
    }
}

/// What a policy knows of a delta.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeltaSize {
    /// Which one it is.
    pub id: DeltaId,
    /// How many merges deep it is.
    pub level: u32,
    /// Its rows.
    pub rows: u64,
    /// The rows of what it was made from; its own if it is an update.
    pub rows_from: u64,
}

impl From<&Delta> for DeltaSize {
    fn from(delta: &Delta) -> Self {
        let Delta { id, level, rows_from, .. } = *delta;
        Self { id, level, rows: delta.rows(), rows_from }
    }
}

/// A merge that a policy asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The deltas, side by side, oldest first.
    pub from: Vec<DeltaId>,
    /// The level of what they are made into.
    pub level: u32,
}

impl Policy {
    /// Returns the next merge, or None if all is well. `deltas` are those that the newest version is read from, oldest
    /// first.
    pub fn next(&self, deltas: &[DeltaSize]) -> Option<Due> {
        let (base, others) = match deltas {
            [base, others @ ..] if base.level == BASE_LEVEL => (Some(base), others),
            others => (None, others),
        };
        let due = |from: &[DeltaSize], level| Due {
            from: from.iter().map(|delta| delta.id).collect(),
            level,
        };
        if self.base_is_due(base, others) {
            return Some(due(deltas, BASE_LEVEL));
        }
        if let Some(from) = self.tier(others) {
            let level = match self.tiers {
                Tiers::TwoLevel { .. } => 1,
                Tiers::Tiered { .. } | Tiers::Adaptive => from.first()?.level + 1,
            };
            return Some(due(from, level));
        }
        let highest = others.iter().map(|delta| delta.level).max()?;
        (others.len() >= self.fan_in_max.max(2)).then(|| due(others, highest.max(1)))
    }

    /// A base is due when the others have grown against it and are no mere updates; the first one, when tiers are of some
    /// height.
    fn base_is_due(&self, base: Option<&DeltaSize>, others: &[DeltaSize]) -> bool {
        let highest = others.iter().map(|delta| delta.level).max().unwrap_or(0);
        let rows: u64 = others.iter().map(|delta| delta.rows).sum();
        if others.len() + usize::from(base.is_some()) < 2 {
            return false;
        }
        match base {
            #[expect(clippy::cast_precision_loss, reason = "a ratio")]
            Some(base) => highest > 0 && rows as f64 >= self.base_ratio * base.rows as f64,
            None => match self.tiers {
                Tiers::TwoLevel { .. } => highest > 0,
                Tiers::Tiered { .. } | Tiers::Adaptive => highest > 1,
            },
        }
    }

    fn tier<'a>(&self, others: &'a [DeltaSize]) -> Option<&'a [DeltaSize]> {
        match self.tiers {
            Tiers::TwoLevel { every } => {
                let n_new = others.iter().filter(|delta| delta.level == 0).count();
                (n_new >= every.max(2)).then_some(others)
            }
            Tiers::Tiered { fan_out } => full_tier(others, fan_out),
            Tiers::Adaptive => full_tier(others, fan_out(others)),
        }
    }
}

/// Returns the oldest deltas of one level that stand side by side and are as many as the fan-out.
fn full_tier(deltas: &[DeltaSize], fan_out: usize) -> Option<&[DeltaSize]> {
    let mut start = 0;
    for at in 0..deltas.len() {
        if deltas[at].level != deltas[start].level {
            start = at;
        }
        if at + 1 - start >= fan_out.max(2) {
            return deltas.get(start..=at);
        }
    }
    None
}

/// Returns the fan-out that suits the keys that the newest merge has found its inputs to share.
fn fan_out(deltas: &[DeltaSize]) -> usize {
    let merged = deltas.iter().rev().find(|delta| delta.level == 1);
    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    let is_shared = |delta: &DeltaSize| (delta.rows as f64) < SHARED_BELOW * delta.rows_from as f64;
    match merged {
        Some(delta) if !is_shared(delta) => FAN_OUT_DISJOINT,
        Some(_) | None => FAN_OUT_SHARED,
    }
}

/// What a policy costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Simulated {
    /// How often a row is written again, on average.
    pub write_amplification: f64,
    /// Deltas that a reader of the newest version meets, on average.
    pub fan_in: f64,
    /// The same at worst.
    pub fan_in_max: usize,
    /// Rows that such a reader reads, against the rows that there are, on average.
    pub read_amplification: f64,
}

impl Policy {
    /// Runs the policy over updates of one row each. `distinct` says how many rows so many updates fold into.
    #[expect(clippy::cast_precision_loss, reason = "averages")]
    pub fn simulate(&self, n_updates: u64, distinct: impl Fn(u64) -> f64) -> Simulated {
        // Rows are counted in thousandths, so that the few of one update can share some.
        let rows_of = |lo: u64, hi: u64| thousandths(distinct(hi - lo + 1));
        let mut deltas: Vec<DeltaSize> = Vec::new();
        let (mut written, mut met, mut worst, mut read) = (0, 0, 0, 0.0);
        for version in 1..=n_updates {
            let id = DeltaId { index: PRIMARY, v: [version, version].into() };
            let rows = rows_of(version, version);
            deltas.push(DeltaSize { id, level: 0, rows, rows_from: rows });
            while let Some(due) = self.next(&deltas) {
                let (Some(first), Some(last)) = (due.from.first(), due.from.last()) else { break };
                let (lo, hi) = (first.v.lo, last.v.hi);
                let at = deltas.iter().position(|delta| delta.id.v.lo == lo).unwrap_or_default();
                let end = at + due.from.len();
                let rows_from = deltas.iter().take(end).skip(at).map(|delta| delta.rows).sum();
                let rows = rows_of(lo.0, hi.0);
                let id = DeltaId { index: PRIMARY, v: VersionRange { lo, hi } };
                let into = DeltaSize { id, level: due.level, rows, rows_from };
                deltas.splice(at..end, [into]);
                written += rows;
            }
            met += deltas.len();
            worst = worst.max(deltas.len());
            let there = deltas.iter().map(|delta| delta.rows).sum::<u64>() as f64;
            read += there / rows_of(1, version) as f64;
        }
        let n = n_updates.max(1) as f64;
        Simulated {
            write_amplification: written as f64 / (1_000.0 * n),
            fan_in: met as f64 / n,
            fan_in_max: worst,
            read_amplification: read / n,
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of rows")]
fn thousandths(rows: f64) -> u64 {
    (rows * 1_000.0).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(deltas: &[(u64, u64, u32, u64)]) -> Vec<DeltaSize> {
        let size = |(lo, hi, level, rows): &(u64, u64, u32, u64)| DeltaSize {
            id: DeltaId { index: PRIMARY, v: [*lo, *hi].into() },
            level: *level,
            rows: *rows,
            rows_from: *rows,
        };
        deltas.iter().map(size).collect()
    }

    fn due(policy: &Policy, deltas: &[(u64, u64, u32, u64)]) -> Option<(u64, u64, u32)> {
        let due = policy.next(&sizes(deltas))?;
        let (first, last) = (due.from.first()?, due.from.last()?);
        Some((first.v.lo.0, last.v.hi.0, due.level))
    }

    #[test]
    fn four_of_one_level_make_one_of_the_next() {
        let policy = Policy { tiers: Tiers::Tiered { fan_out: 4 }, ..Policy::default() };
        let singles = [(1, 1, 0, 9), (2, 2, 0, 9), (3, 3, 0, 9), (4, 4, 0, 9)];
        assert_eq!(due(&policy, &singles[..3]), None);
        assert_eq!(due(&policy, &singles), Some((1, 4, 1)));
        let base = (1, 90, BASE_LEVEL, 1_000);
        assert_eq!(due(&policy, &[base, (91, 94, 1, 99), (95, 95, 0, 9)]), None);
        let grown = [base, (91, 94, 1, 150), (95, 98, 1, 150)];
        assert_eq!(due(&policy, &grown), Some((1, 98, BASE_LEVEL)));
    }

    #[test]
    fn one_delta_is_never_merged() {
        for tiers in [Tiers::Tiered { fan_out: 2 }, Tiers::TwoLevel { every: 2 }] {
            let policy = Policy { tiers, ..Policy::default() };
            for level in [0, 1, 2, BASE_LEVEL] {
                assert_eq!(due(&policy, &[(1, 4, level, 9)]), None, "level {level}");
            }
        }
    }

    #[test]
    fn two_levels_make_the_cumulative_again() {
        let policy = Policy { tiers: Tiers::TwoLevel { every: 2 }, ..Policy::default() };
        let base = (1, 90, BASE_LEVEL, 1_000);
        let deltas = [base, (91, 92, 1, 18), (93, 93, 0, 9), (94, 94, 0, 9)];
        assert_eq!(due(&policy, &deltas), Some((91, 94, 1)));
        assert_eq!(due(&policy, &deltas[..3]), None);
    }

    #[test]
    fn more_deltas_than_a_reader_should_meet_are_merged() {
        let policy =
            Policy { tiers: Tiers::Tiered { fan_out: 99 }, base_ratio: 0.3, fan_in_max: 5 };
        let singles: Vec<_> = (1..=5).map(|version| (version, version, 0, 1)).collect();
        assert_eq!(due(&policy, &singles), Some((1, 5, 1)));
    }

    /// Ten thousand updates, with keys that they share and with keys of their own. `--nocapture` shows the figures.
    #[test]
    fn policies_bound_what_readers_meet_and_what_is_written() {
        let policies = [
            ("two levels of 10", Tiers::TwoLevel { every: 10 }),
            ("tiers of 4", Tiers::Tiered { fan_out: 4 }),
            ("tiers of 8", Tiers::Tiered { fan_out: 8 }),
            ("adaptive", Tiers::Adaptive),
        ];
        println!(
            "{:18} {:9} {:>8} {:>8} {:>4} {:>8}",
            "", "keys", "written", "fan-in", "max", "read"
        );
        for (keys, shared) in [("own", 1.0), ("shared", 0.7)] {
            for (name, tiers) in policies {
                let policy = Policy { tiers, ..Policy::default() };
                #[expect(clippy::cast_precision_loss, reason = "a count of updates")]
                let found = policy.simulate(10_000, |updates| (updates as f64).powf(shared));
                println!(
                    "{name:18} {keys:9} {:8.2} {:8.2} {:4} {:8.2}",
                    found.write_amplification,
                    found.fan_in,
                    found.fan_in_max,
                    found.read_amplification
                );
                assert!(found.fan_in_max <= 24, "{name}: {found:?}");
                if tiers != (Tiers::TwoLevel { every: 10 }) {
                    // Each level once, and a base whenever the rest is 0.3 of it.
                    assert!(found.write_amplification <= 10_000f64.log(4.0) + 1.0 / 0.3);
                }
            }
        }
    }
}
