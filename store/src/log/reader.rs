//! Follows the log to its end.
//!
//! The end is found by asking for the next record until there is none. Listings and hints are never trusted for it.

use futures::{StreamExt, TryStreamExt, stream};

use crate::checksum::Checksum;
use crate::error::{Error, Result};
use crate::log::record::{Record, decode};
use crate::log::state::State;
use crate::names::Names;
use crate::objects::Objects;

/// How many records are asked for at once when far behind.
const READ_AHEAD_MAX: u64 = 16;

/// Takes all records in that follow `state`, and returns how many there were.
pub(crate) async fn catch_up(objects: &Objects, names: &Names, state: &mut State) -> Result<u64> {
    let start = state.lsn;
    let mut ahead = 1;
    loop {
        let wanted: Vec<u64> = (state.lsn + 1..=state.lsn + ahead).collect();
        // The closure owns what it needs per item so that the stream stays `Send`.
        let mut records = stream::iter(wanted)
            .map(|lsn| read(objects, names, lsn))
            .buffered(usize::try_from(ahead).unwrap_or(1));
        while let Some(record) = records.try_next().await? {
            let Some((record, stored)) = record else {
                return Ok(state.lsn - start);
            };
            let object = names.record(record.lsn);
            state.apply(object.as_ref(), &record, stored)?;
        }
        ahead = (ahead * 2).min(READ_AHEAD_MAX);
    }
}

/// Returns a record and the digest of its object, or None if the position is free.
pub(crate) async fn read(
    objects: &Objects,
    names: &Names,
    lsn: u64,
) -> Result<Option<(Record, Checksum)>> {
    let path = names.record(lsn);
    let Some(stored) = objects.get(&path).await? else { return Ok(None) };
    let record = decode(path.as_ref(), &stored)?;
    if record.lsn != lsn {
        let evidence = format!("it says position {}, it stands at {lsn}", record.lsn);
        return Err(Error::corrupt(path.as_ref(), evidence));
    }
    Ok(Some((record, Checksum::of(&stored))))
}
