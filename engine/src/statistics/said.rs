//! What sources said of their tables a moment ago, so that not each query asks again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{TableKey, TableStatistics};
use crate::environment::instant;
use crate::remote::RemoteScan;

/// For so long a query plans with what was said to an earlier one.
const AGE_MAX: Duration = Duration::from_secs(30);

/// Tables that are remembered, some kilobytes each.
const N_TABLES_MAX: usize = 2_000;

/// The statements of all sources.
#[derive(Debug, Default)]
pub struct Said(Mutex<BTreeMap<TableKey, Answer>>);

#[derive(Debug)]
struct Answer {
    since: Instant,
    /// The table as it was: what has other columns now is another table.
    whole: RemoteScan,
    statistics: TableStatistics,
}

impl Said {
    /// Keeps what was said of a whole table at `since`. A table that nobody has counted yet is soon another one: it is asked
    /// about again.
    pub fn keep(&self, since: Instant, whole: &RemoteScan, statistics: &TableStatistics) {
        if statistics.n_rows.is_none() {
            return;
        }
        let mut answers = self.0.lock();
        if answers.len() >= N_TABLES_MAX {
            answers.retain(|_key, answer| answer.is_young());
        }
        if answers.len() >= N_TABLES_MAX {
            answers.clear();
        }
        let (whole, statistics) = (whole.clone(), statistics.clone());
        answers.insert(whole.key(), Answer { since, whole, statistics });
    }

    /// Returns what was said of a whole table, if that is not too long ago.
    pub fn of_table(&self, whole: &RemoteScan) -> Option<TableStatistics> {
        let answers = self.0.lock();
        let answer = answers.get(&whole.key())?;
        (answer.is_young() && answer.whole == *whole).then(|| answer.statistics.clone())
    }

    /// Forgets what was said of a catalog's tables.
    pub fn forget(&self, catalog: &str) {
        self.0.lock().retain(|key, _answer| key.catalog != catalog);
    }

    /// Forgets everything.
    pub fn forget_all(&self) {
        self.0.lock().clear();
    }
}

impl Answer {
    fn is_young(&self) -> bool {
        instant().saturating_duration_since(self.since) < AGE_MAX
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::{DataType, Field};

    use super::*;
    use crate::remote::RemoteColumn;

    fn whole(catalog: &str, column: DataType) -> RemoteScan {
        let columns = vec![RemoteColumn::of_field(&Field::new("a", column, true))];
        RemoteScan::whole(catalog, "s", "t", columns)
    }

    fn of_rows(n_rows: Option<f64>) -> TableStatistics {
        TableStatistics { n_rows, ..TableStatistics::default() }
    }

    #[test]
    fn what_was_said_serves_a_while_and_only_for_the_table_that_it_was_said_of() {
        let (said, now) = (Said::default(), instant());
        let table = whole("c", DataType::Int64);
        said.keep(now, &table, &of_rows(None));
        assert_eq!(said.of_table(&table), None);
        said.keep(now, &table, &of_rows(Some(7.0)));
        assert_eq!(said.of_table(&table), Some(of_rows(Some(7.0))));
        assert_eq!(said.of_table(&whole("c", DataType::Utf8)), None);
        assert_eq!(said.of_table(&whole("d", DataType::Int64)), None);
        said.forget("d");
        assert!(said.of_table(&table).is_some());
        said.forget("c");
        assert_eq!(said.of_table(&table), None);
        let long_ago = now.checked_sub(AGE_MAX).unwrap();
        said.keep(long_ago, &table, &of_rows(Some(7.0)));
        assert_eq!(said.of_table(&table), None);
    }

    #[test]
    fn no_more_tables_are_remembered_than_the_bound() {
        let (said, now) = (Said::default(), instant());
        for n in 0..=N_TABLES_MAX {
            said.keep(now, &whole(&format!("c{n}"), DataType::Int64), &of_rows(Some(1.0)));
        }
        assert!(said.0.lock().len() <= N_TABLES_MAX);
        assert!(said.of_table(&whole(&format!("c{N_TABLES_MAX}"), DataType::Int64)).is_some());
    }
}
