//! What happened: the log, read backwards, for people and for time travel by the clock.

use futures::{StreamExt, TryStreamExt, stream};

use crate::database::Database;
use crate::error::{Error, Result};
use crate::log::reader;
use crate::log::record::Record;
use crate::version::Version;

/// Records read at the same time.
const READS_AT_ONCE: usize = 16;

impl Database {
    /// Returns the newest records of the log, newest first, at most `n_max`.
    ///
    /// # Errors
    /// Source if the object store fails, Internal if the log is damaged.
    pub async fn history(&self, n_max: u64) -> Result<Vec<Record>> {
        let newest = self.log().refresh().await?.lsn;
        let oldest = newest.saturating_sub(n_max);
        stream::iter((oldest + 1..=newest).rev())
            .map(|lsn| self.record(lsn))
            .buffered(READS_AT_ONCE)
            .try_collect()
            .await
    }

    /// Returns the newest version that was committed at or before a time.
    ///
    /// # Errors
    /// User if there was none; otherwise as [`Self::history`].
    pub async fn version_at(&self, ts_us: i64) -> Result<Version> {
        // Times in the log grow strictly, so the last record not after `ts_us` is found by halving.
        let (mut before, mut after) = (0, self.log().refresh().await?.lsn + 1);
        let mut found = None;
        while after - before > 1 {
            let middle = before + (after - before) / 2;
            let record = self.record(middle).await?;
            if record.ts_us <= ts_us {
                before = middle;
                found = Some(record.version);
            } else {
                after = middle;
            }
        }
        found.ok_or(Error::TimeNotFound { ts_us })
    }

    async fn record(&self, lsn: u64) -> Result<Record> {
        let log = self.log();
        let found = reader::read(&log.objects, &log.names, lsn).await?;
        let missing = || Error::corrupt(log.names.record(lsn).as_ref(), "the log goes on after it");
        found.map(|(record, _digest)| record).ok_or_else(missing)
    }
}
