//! The deltas of a table: which updates lie together, and from which of them a version is read.
//!
//! A delta holds the rows of a range of versions. An update brings a singleton; a compaction brings a delta that says the
//! same as those it was made from, and these stay until no retained version needs them. To read version n is to choose
//! deltas that hold each update up to n exactly once:
//!
//! ```text
//! versions   1  2  3  4  5  6  7  8
//! deltas     ■  ■  ■  ■  ■  ■  ■  ■     singletons
//!            └──[1,4]─┘                 made from four of them
//!            └─────[1,6]────┘           made from [1,4], 5 and 6
//! ```
//!
//! Version 8 is read from `[1,6] 7 8`, version 5 from `[1,4] 5`. Versions in which the table got no rows are in no
//! delta, or within a wider one; the table remembers in which ones it did.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::log::record::{FileEntry, Merge};
use crate::version::{Version, VersionRange};

/// The table's own sort order, which every table has.
pub const PRIMARY: u32 = 0;

/// Which delta of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeltaId {
    /// The sort order that it belongs to; 0 is the table's own.
    pub index: u32,
    /// The updates that it holds.
    pub v: VersionRange,
}

impl fmt::Display for DeltaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { index, v: VersionRange { lo, hi } } = self;
        match index {
            0 => write!(f, "[{lo},{hi}]"),
            index => write!(f, "[{lo},{hi}] of order {index}"),
        }
    }
}

/// The rows of a range of versions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delta {
    /// Which one it is.
    pub id: DeltaId,
    /// The log position at which it came.
    pub lsn: u64,
    /// How it came about: 0 as an update, else the level of its merge; see [`crate::policy`].
    pub level: u32,
    /// The rows of what it was made from; its own if it is an update.
    pub rows_from: u64,
    /// Its files, keys ascending from one to the next; none if its rows cancelled out.
    pub files: Vec<Arc<FileEntry>>,
}

impl Delta {
    /// Returns how many rows it has.
    pub fn rows(&self) -> u64 {
        self.files.iter().map(|file| file.rows).sum()
    }

    /// Returns how many bytes it has.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

/// All deltas of a table, of all its sort orders.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Deltas {
    by_id: BTreeMap<DeltaId, Arc<Delta>>,
    /// The versions in which rows came, ascending. Where no retained version lies between them they may be one range.
    updates: Vec<VersionRange>,
}

impl Deltas {
    /// Returns all of them: by sort order, then by first and last version.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Delta>> {
        self.by_id.values()
    }

    /// Returns how many there are.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Says whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Returns one of them.
    pub fn get(&self, id: DeltaId) -> Option<&Arc<Delta>> {
        self.by_id.get(&id)
    }

    /// Returns the versions in which rows came.
    pub(crate) fn updates(&self) -> &[VersionRange] {
        &self.updates
    }

    /// Sets the versions in which rows came.
    pub(crate) fn set_updates(&mut self, updates: Vec<VersionRange>) {
        self.updates = updates;
    }

    /// Returns those that a version or an earlier one can be read from.
    pub(crate) fn up_to(&self, version: Version) -> Self {
        let deltas = self.by_id.iter().filter(|(id, _)| id.v.hi <= version);
        let by_id = deltas.map(|(id, delta)| (*id, Arc::clone(delta))).collect();
        let updates = self.updates.iter().filter(|range| range.lo <= version);
        let cut = |range: &VersionRange| VersionRange { lo: range.lo, hi: range.hi.min(version) };
        Self { by_id, updates: updates.map(cut).collect() }
    }

    /// Returns the same, come at another log position.
    pub(crate) fn since(self, lsn: u64) -> Self {
        let moved = |delta: Arc<Delta>| Arc::new(Delta { lsn, ..Delta::clone(&delta) });
        let by_id = self.by_id.into_iter().map(|(id, delta)| (id, moved(delta))).collect();
        Self { by_id, ..self }
    }

    /// Remembers that rows came in a version, which is the newest.
    pub(crate) fn updated(&mut self, version: Version) {
        match self.updates.last_mut() {
            Some(last) if last.hi.next() >= version => last.hi = version,
            Some(_) | None => self.updates.push(VersionRange::single(version)),
        }
    }

    /// Forgets in which versions rows came, up to where one delta holds all of them, as far as no version from `oldest` on
    /// needs to know.
    pub(crate) fn forget_updates(&mut self, oldest: Version) {
        let Some(first) = self.updates.first().map(|range| range.lo) else { return };
        let whole = |delta: &&Arc<Delta>| delta.id.v.lo <= first && delta.id.v.hi <= oldest;
        let widest = self.of(PRIMARY).filter(whole).map(|delta| delta.id.v.hi).max();
        let Some(hi) = widest else { return };
        let before = self.updates.clone();
        let served_before = self.all_served_from(oldest);
        let later = self.updates.partition_point(|range| range.hi <= hi);
        self.updates.drain(..later);
        match self.updates.first_mut() {
            Some(next) if next.lo <= hi.next() => next.lo = first,
            _ => self.updates.insert(0, VersionRange { lo: first, hi }),
        }
        // Some version may be read from deltas that end and begin elsewhere.
        if self.lost(oldest).is_some() || self.all_served_from(oldest) != served_before {
            self.updates = before;
        }
    }

    /// Returns the first version from `from` on, before `end`, in which rows came.
    fn first_update(&self, from: Version, end: Version) -> Option<Version> {
        let at = self.updates.partition_point(|range| range.hi < from);
        let first = self.updates.get(at)?.lo.max(from);
        (first < end).then_some(first)
    }

    /// Returns how many versions of a range rows came in.
    fn n_updates(&self, range: VersionRange) -> u64 {
        let both = self.updates.iter().map(|update| VersionRange {
            lo: update.lo.max(range.lo),
            hi: update.hi.min(range.hi),
        });
        both.filter(|both| both.lo <= both.hi).map(width).sum()
    }

    /// Lets those go whose sort order is none of these.
    pub(crate) fn keep_orders(&mut self, is_kept: impl Fn(u32) -> bool) {
        self.by_id.retain(|id, _| is_kept(id.index));
    }

    /// Returns the newest version up to `version` whose rows are not in deltas of a sort order.
    pub(crate) fn newest_missing(&self, index: u32, version: Version) -> Option<Version> {
        let held: Vec<VersionRange> = self.of(index).map(|delta| delta.id.v).collect();
        let mut hi = version;
        loop {
            // The newest update up to `hi`; what holds it may hold older ones too.
            let before = self.updates.partition_point(|range| range.lo <= hi);
            let update = self.updates.get(before.checked_sub(1)?)?.hi.min(hi);
            let holds = |range: &&VersionRange| range.lo <= update && update <= range.hi;
            match held.iter().filter(holds).map(|range| range.lo).min() {
                None => return Some(update),
                Some(lo) => hi = Version(lo.0.checked_sub(1)?),
            }
        }
    }

    /// Takes one in, or says why it cannot be.
    pub(crate) fn add(&mut self, delta: Arc<Delta>) -> Result<(), String> {
        let id = delta.id;
        if id.v.lo > id.v.hi {
            return Err(format!("delta {id} ends before it begins"));
        }
        match self.by_id.insert(id, delta) {
            Some(_) => Err(format!("delta {id} came twice")),
            None => Ok(()),
        }
    }

    /// Lets one go, or says that it is not there.
    pub(crate) fn remove(&mut self, id: DeltaId) -> Result<(), String> {
        self.by_id.remove(&id).map(drop).ok_or_else(|| format!("delta {id} is not there"))
    }

    /// Returns the deltas of least cost that hold each update up to `version` exactly once, oldest first; None if there
    /// are none because deltas that the version needs are gone.
    pub(crate) fn spanning(
        &self,
        index: u32,
        version: Version,
        cost: impl Fn(&Delta) -> u64,
    ) -> Option<Vec<Arc<Delta>>> {
        let line = Line::new(self.of(index).filter(|delta| delta.id.v.lo <= version), version);
        // A rollup may have nothing yet of what came before it.
        if self.first_update(Version(0), *line.places.first()?).is_some() {
            return None;
        }
        let mut best: Vec<Option<Path>> = vec![None; line.places.len()];
        *best.first_mut()? = Some(Path { cost: 0, last: None });
        for place in 0..line.places.len() {
            let Some(here) = best[place].as_ref().map(|path| path.cost) else { continue };
            if let Some((start, end)) = line.segment(place)
                && self.first_update(start, end).is_none()
            {
                improve(&mut best, place + 1, Path { cost: here, last: Some((place, None)) });
            }
            for delta in line.from(place) {
                let Some(end) = line.place(delta.id.v.hi.next()) else { continue };
                let path = Path {
                    cost: here.saturating_add(cost(delta)),
                    last: Some((place, Some(Arc::clone(delta)))),
                };
                improve(&mut best, end, path);
            }
        }
        let mut found = Vec::new();
        let mut path = best.last()?.as_ref()?;
        while let Some((place, delta)) = &path.last {
            found.extend(delta.clone());
            path = best.get(*place)?.as_ref()?;
        }
        found.reverse();
        Some(found)
    }

    /// Checks that a merge has each update that it holds from exactly one delta: of its own sort order, or of the table's, from
    /// which all others are made.
    pub(crate) fn tile_merge(&self, merge: &Merge) -> Result<(), String> {
        let from = merge.from.first().map_or(merge.into.index, |id| id.index);
        if from != merge.into.index && from != PRIMARY {
            return Err(format!("delta {} was made from those of order {from}", merge.into));
        }
        self.tile(from, merge.into.v, &merge.from)
    }

    /// Checks that deltas hold each update in `range` that the table got exactly once, and no other.
    pub(crate) fn tile(
        &self,
        index: u32,
        range: VersionRange,
        chosen: &[DeltaId],
    ) -> Result<(), String> {
        let mut chosen = chosen.to_vec();
        chosen.sort_unstable();
        for id in &chosen {
            if id.index != index || id.v.lo < range.lo || id.v.hi > range.hi {
                return Err(format!("delta {id} is not in [{},{}]", range.lo, range.hi));
            }
            if !self.by_id.contains_key(id) {
                return Err(format!("delta {id} is not there"));
            }
        }
        if let Some(pair) = chosen.windows(2).find(|pair| pair[0].v.hi >= pair[1].v.lo) {
            return Err(format!("deltas {} and {} hold the same update", pair[0], pair[1]));
        }
        let n_held: u64 = chosen.iter().map(|id| self.n_updates(id.v)).sum();
        let n_there = self.n_updates(range);
        match n_held == n_there {
            true => Ok(()),
            false => Err(format!("the deltas hold {n_held} of {n_there} updates")),
        }
    }

    /// Returns narrower deltas that hold the same updates as one of them; None if they are not there any more.
    pub(crate) fn saying_the_same(&self, id: DeltaId) -> Option<Vec<Arc<Delta>>> {
        let is_inside = |delta: &&Arc<Delta>| {
            delta.id != id && delta.id.v.lo >= id.v.lo && delta.id.v.hi <= id.v.hi
        };
        let inside = self.of(id.index).filter(is_inside);
        let by_id: BTreeMap<_, _> = inside.map(|delta| (delta.id, Arc::clone(delta))).collect();
        let is_held = |range: &&VersionRange| range.hi >= id.v.lo && range.lo <= id.v.hi;
        let updates = self.updates.iter().filter(is_held).copied().collect();
        let found = Self { by_id, updates }.spanning(id.index, id.v.hi, Delta::rows)?;
        (!found.is_empty()).then_some(found)
    }

    /// Returns a version from `oldest` on that cannot be read any more. What a rollup cannot answer, its table can.
    pub(crate) fn lost(&self, oldest: Version) -> Option<Version> {
        self.lost_of(PRIMARY, oldest)
    }

    /// Returns [`Self::served_from`] of each sort order.
    fn all_served_from(&self, oldest: Version) -> BTreeMap<u32, Option<Version>> {
        let orders: BTreeSet<u32> = self.by_id.keys().map(|id| id.index).collect();
        orders.into_iter().map(|index| (index, self.served_from(index, oldest))).collect()
    }

    /// Returns the first version from `oldest` on from which on a sort order has to be readable: of the table's own that is
    /// `oldest`, of others the first from which on they are; None if they are not.
    fn served_from(&self, index: u32, oldest: Version) -> Option<Version> {
        if index == PRIMARY {
            return Some(oldest);
        }
        let newest = self.of(index).map(|delta| delta.id.v.hi).max()?;
        let mut from = oldest;
        while let Some(lost) = self.lost_of(index, from) {
            from = lost.next();
            if from > newest {
                return None;
            }
        }
        Some(from)
    }

    fn lost_of(&self, index: u32, oldest: Version) -> Option<Version> {
        let newest = self.of(index).map(|delta| delta.id.v.hi).max()?;
        let line = Line::new(self.of(index), newest);
        let mut reached = vec![false; line.places.len()];
        *reached.first_mut()? = true;
        for place in 0..line.places.len() {
            // A version is read up to the place behind it.
            if !reached[place] && line.places[place] > oldest {
                return Some(Version(line.places[place].0 - 1));
            }
            let Some((start, end)) = line.segment(place) else { break };
            match self.first_update(start, end) {
                None => reached[place + 1] |= reached[place],
                // Versions before the update, and those from it on that only wider deltas hold.
                Some(update) => {
                    if !reached[place] && update > oldest {
                        return Some(oldest.max(start));
                    }
                    if end.0 > oldest.max(update).0 + 1 {
                        return Some(oldest.max(update));
                    }
                }
            }
            if reached[place] {
                for delta in line.from(place) {
                    if let Some(end) = line.place(delta.id.v.hi.next()) {
                        reached[end] = true;
                    }
                }
            }
        }
        match reached.last() {
            Some(true) | None => None,
            Some(false) => Some(oldest.max(newest)),
        }
    }

    /// Returns the deltas that no version from `oldest` on needs, narrow ones first.
    pub(crate) fn superseded(&self, oldest: Version) -> Vec<DeltaId> {
        let mut candidates: Vec<DeltaId> =
            self.by_id.keys().copied().filter(|id| id.v.hi <= oldest).collect();
        candidates.sort_by_key(|id| (width(id.v), *id));
        let mut left = self.clone();
        let mut gone = Vec::new();
        let served_from = self.all_served_from(oldest);
        for id in candidates {
            let is_inside = |other: &Arc<Delta>| {
                other.id != id
                    && other.id.index == id.index
                    && other.id.v.lo <= id.v.lo
                    && other.id.v.hi >= id.v.hi
                    && other.id.v.hi <= oldest
            };
            let Some(served_from) = served_from.get(&id.index).copied().flatten() else { continue };
            if left.of(id.index).any(is_inside)
                && let Some(delta) = left.by_id.remove(&id)
            {
                match left.lost_of(id.index, served_from) {
                    None => gone.push(id),
                    Some(_) => drop(left.by_id.insert(id, delta)),
                }
            }
        }
        gone
    }

    fn of(&self, index: u32) -> impl Iterator<Item = &Arc<Delta>> + Clone {
        let least = VersionRange { lo: Version(0), hi: Version(0) };
        self.by_id
            .range(DeltaId { index, v: least }..)
            .take_while(move |(id, _)| id.index == index)
            .map(|(_, delta)| delta)
    }
}

/// The cheapest way to a place: from where, and over which delta; over none where no update was.
#[derive(Debug, Clone)]
struct Path {
    cost: u64,
    last: Option<(usize, Option<Arc<Delta>>)>,
}

fn improve(best: &mut [Option<Path>], place: usize, path: Path) {
    if let Some(known) = best.get_mut(place)
        && known.as_ref().is_none_or(|known| path.cost < known.cost)
    {
        *known = Some(path);
    }
}

/// The versions as a line, cut wherever a delta begins or ends.
struct Line<'a> {
    /// Versions at which deltas begin, or behind which they end, ascending; the last stands behind the version to read.
    places: Vec<Version>,
    deltas: BTreeMap<Version, Vec<&'a Arc<Delta>>>,
}

impl<'a> Line<'a> {
    fn new(deltas: impl Iterator<Item = &'a Arc<Delta>>, version: Version) -> Self {
        let end = version.next();
        let mut places = vec![end];
        let mut from: BTreeMap<Version, Vec<&'a Arc<Delta>>> = BTreeMap::new();
        for delta in deltas {
            let VersionRange { lo, hi } = delta.id.v;
            places.extend([lo, hi.next().min(end)]);
            if hi <= version {
                from.entry(lo).or_default().push(delta);
            }
        }
        places.sort_unstable();
        places.dedup();
        Self { places, deltas: from }
    }

    fn place(&self, version: Version) -> Option<usize> {
        self.places.binary_search(&version).ok()
    }

    /// Returns a place and the next.
    fn segment(&self, place: usize) -> Option<(Version, Version)> {
        Some((*self.places.get(place)?, *self.places.get(place + 1)?))
    }

    fn from(&self, place: usize) -> &[&'a Arc<Delta>] {
        let version = self.places.get(place);
        version.and_then(|version| self.deltas.get(version)).map_or(&[], Vec::as_slice)
    }
}

fn width(range: VersionRange) -> u64 {
    range.hi.0 - range.lo.0 + 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(lo: u64, hi: u64) -> DeltaId {
        DeltaId { index: 0, v: [lo, hi].into() }
    }

    /// Deltas of these ranges, of which rows came in all versions but `without`.
    fn deltas_without(ranges: &[(u64, u64)], without: &[u64]) -> Deltas {
        let mut deltas = Deltas::default();
        let singles = ranges.iter().filter(|(lo, hi)| lo == hi).map(|(lo, _)| *lo);
        let singles: BTreeSet<u64> = singles.collect();
        let held: BTreeSet<u64> = ranges.iter().flat_map(|(lo, hi)| *lo..=*hi).collect();
        for version in held {
            if singles.contains(&version) || !without.contains(&version) {
                deltas.updated(Version(version));
            }
        }
        for (lo, hi) in ranges {
            let delta =
                Delta { id: id(*lo, *hi), lsn: 0, level: 0, rows_from: 0, files: Vec::new() };
            drop(deltas.add(Arc::new(delta)));
        }
        deltas
    }

    fn deltas(ranges: &[(u64, u64)]) -> Deltas {
        deltas_without(ranges, &[])
    }

    fn is_spanning(deltas: &Deltas, version: u64, chosen: &[DeltaId]) -> bool {
        deltas.tile(0, [0, version].into(), chosen).is_ok()
    }

    /// Costs by which no two sets are alike by chance.
    fn cost(delta: &Delta) -> u64 {
        100 + delta.id.v.lo.0 * 7 % 13 + delta.id.v.hi.0 * 11 % 17
    }

    fn chosen(deltas: &Deltas, version: u64) -> Option<Vec<DeltaId>> {
        let found = deltas.spanning(0, Version(version), cost)?;
        Some(found.iter().map(|delta| delta.id).collect())
    }

    /// The least cost of all subsets that hold each update once.
    fn least(deltas: &Deltas, version: u64) -> Option<u64> {
        let all: Vec<&Arc<Delta>> = deltas.iter().collect();
        let subsets = (0..1u32 << all.len()).filter_map(|bits| {
            let subset: Vec<&Arc<Delta>> =
                (0..all.len()).filter(|at| bits >> at & 1 == 1).map(|at| all[at]).collect();
            let held = |version: u64| {
                let inside =
                    |delta: &&&Arc<Delta>| (delta.id.v.lo.0..=delta.id.v.hi.0).contains(&version);
                let n = subset.iter().filter(inside).count();
                (n, deltas.n_updates(VersionRange::single(Version(version))) > 0)
            };
            let each_once = (1..=version).all(|version| match held(version) {
                (n, true) => n == 1,
                (n, false) => n <= 1,
            });
            let none_later = subset.iter().all(|delta| delta.id.v.hi.0 <= version);
            (each_once && none_later).then(|| subset.iter().map(|delta| cost(delta)).sum::<u64>())
        });
        subsets.min()
    }

    #[test]
    fn the_widest_deltas_are_read() {
        let deltas = deltas(&[(1, 1), (2, 2), (3, 3), (4, 4), (1, 3), (7, 7)]);
        assert_eq!(chosen(&deltas, 0), Some(vec![]));
        assert_eq!(chosen(&deltas, 2), Some(vec![id(1, 1), id(2, 2)]));
        assert_eq!(chosen(&deltas, 6), Some(vec![id(1, 3), id(4, 4)]));
        assert_eq!(chosen(&deltas, 9), Some(vec![id(1, 3), id(4, 4), id(7, 7)]));
        assert!(is_spanning(&deltas, 9, &[id(7, 7), id(4, 4), id(1, 3)]));
        assert!(!is_spanning(&deltas, 9, &[id(7, 7), id(4, 4)]));
        assert!(!is_spanning(&deltas, 4, &[id(1, 3), id(3, 3), id(4, 4)]));
    }

    #[test]
    fn what_no_retained_version_needs_may_go() {
        let all = deltas(&[(1, 1), (2, 2), (3, 3), (4, 4), (1, 2), (1, 4)]);
        assert_eq!(all.superseded(Version(1)), []);
        assert_eq!(all.superseded(Version(3)), [id(1, 1), id(2, 2)]);
        assert_eq!(all.superseded(Version(4)).len(), 5);
        let few = deltas(&[(1, 4), (6, 6)]);
        assert_eq!(few.lost(Version(4)), None);
        assert_eq!(few.lost(Version(2)), Some(Version(2)));
        assert_eq!(chosen(&few, 3), None);
        // No rows came in 2: it is what 1 was.
        let gap = deltas_without(&[(1, 1), (3, 3), (1, 3)], &[2]);
        assert_eq!(chosen(&gap, 2), Some(vec![id(1, 1)]));
        assert_eq!(chosen(&gap, 3), Some(vec![id(1, 3)]));
    }

    fn any_deltas() -> impl Strategy<Value = Deltas> {
        let ranges = prop::collection::vec((1..10u64, 0..5u64), 0..11);
        (ranges, prop::collection::vec(1..15u64, 0..6)).prop_map(|(ranges, without)| {
            let ranges: Vec<_> = ranges.into_iter().map(|(lo, more)| (lo, lo + more)).collect();
            deltas_without(&ranges, &without)
        })
    }

    proptest! {
        #[test]
        fn the_cheapest_deltas_that_span_are_found(deltas in any_deltas(), version in 0..16u64) {
            let found = chosen(&deltas, version);
            let cost_of = |ids: &Vec<DeltaId>| -> u64 {
                ids.iter().map(|id| cost(deltas.get(*id).unwrap())).sum()
            };
            prop_assert_eq!(found.as_ref().map(cost_of), least(&deltas, version));
            if let Some(found) = found {
                prop_assert!(is_spanning(&deltas, version, &found));
            }
        }

        #[test]
        fn what_is_lost_cannot_be_read_and_nothing_else(deltas in any_deltas(), oldest in 0..16u64) {
            let readable = |version: &u64| chosen(&deltas, *version).is_some();
            let first_lost = (oldest..20).find(|version| !readable(version));
            prop_assert_eq!(deltas.lost(Version(oldest)).is_some(), first_lost.is_some());
            if let Some(lost) = deltas.lost(Version(oldest)) {
                prop_assert!(lost.0 >= oldest && !readable(&lost.0));
            }
        }

        #[test]
        fn letting_superseded_deltas_go_loses_nothing(deltas in any_deltas(), oldest in 0..16u64) {
            let mut left = deltas.clone();
            for id in deltas.superseded(Version(oldest)) {
                left.remove(id).unwrap();
            }
            for version in oldest..20 {
                let (before, after) = (chosen(&deltas, version), chosen(&left, version));
                prop_assert_eq!(before.is_some(), after.is_some());
            }
            left.forget_updates(Version(oldest));
            for version in oldest..20 {
                let (before, after) = (chosen(&deltas, version), chosen(&left, version));
                prop_assert_eq!(before.is_some(), after.is_some());
            }
        }
    }
}
