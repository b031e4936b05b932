//! A bounded table of things that clients refer to by an unguessable id, and that are forgotten
//! when idle.
//!
//! Sessions, tickets and prepared statements live on shelves. A full shelf drops what was used
//! longest ago; it never grows.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use meshwork_engine::environment;
use parking_lot::Mutex;

#[derive(Debug)]
pub(super) struct Shelf<T> {
    capacity: usize,
    idle_max: Duration,
    entries: Mutex<BTreeMap<String, Entry<T>>>,
}

#[derive(Debug)]
struct Entry<T> {
    value: T,
    used: Instant,
}

impl<T: Clone> Shelf<T> {
    pub(super) fn new(capacity: usize, idle_max: Duration) -> Self {
        Self { capacity, idle_max, entries: Mutex::default() }
    }

    /// Puts the value under a new random id and returns the id.
    pub(super) fn put(&self, value: T) -> String {
        let id = format!("{:032x}", rand::random::<u128>());
        self.put_as(&id, value);
        id
    }

    /// Puts the value under the id, instead of what stands there.
    pub(super) fn put_as(&self, id: &str, value: T) {
        let now = environment::instant();
        let mut entries = self.entries.lock();
        if entries.len() >= self.capacity {
            entries.retain(|_, entry| now.duration_since(entry.used) < self.idle_max);
        }
        if entries.len() >= self.capacity {
            let oldest =
                entries.iter().min_by_key(|(_, entry)| entry.used).map(|(id, _)| id.clone());
            if let Some(oldest) = oldest {
                entries.remove(&oldest);
            }
        }
        entries.insert(id.to_owned(), Entry { value, used: now });
    }

    /// Returns the value, which counts as used now.
    pub(super) fn get(&self, id: &str) -> Option<T> {
        let now = environment::instant();
        let mut entries = self.entries.lock();
        let entry = entries.get_mut(id)?;
        if now.duration_since(entry.used) >= self.idle_max {
            entries.remove(id);
            return None;
        }
        entry.used = now;
        Some(entry.value.clone())
    }

    /// Shows all values to `look`, which must be quick: nobody else reaches the shelf meanwhile.
    pub(super) fn for_each(&self, look: impl FnMut(&T)) {
        self.entries.lock().values().map(|entry| &entry.value).for_each(look);
    }

    /// Removes the value and returns it, unless it has been forgotten.
    pub(super) fn take(&self, id: &str) -> Option<T> {
        let entry = self.entries.lock().remove(id)?;
        let idle = environment::instant().duration_since(entry.used);
        (idle < self.idle_max).then_some(entry.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_shelf_drops_what_was_used_longest_ago() {
        let shelf = Shelf::new(2, Duration::from_secs(60));
        let first = shelf.put(1);
        let second = shelf.put(2);
        assert_eq!(shelf.get(&first), Some(1));
        let third = shelf.put(3);
        assert_eq!(
            (shelf.get(&first), shelf.get(&second), shelf.get(&third)),
            (Some(1), None, Some(3))
        );
    }

    #[test]
    fn an_idle_entry_is_forgotten_and_a_taken_one_is_gone() {
        let shelf = Shelf::new(2, Duration::ZERO);
        let id = shelf.put(1);
        assert_eq!(shelf.get(&id), None);
        let shelf = Shelf::new(2, Duration::from_secs(60));
        let id = shelf.put(1);
        assert_eq!((shelf.take(&id), shelf.take(&id)), (Some(1), None));
    }
}
