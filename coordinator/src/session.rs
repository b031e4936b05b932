//! Who asks: user, default catalog and schema, settings, an open update batch.
//!
//! A session belongs to one client and lives in memory of one coordinator. It is shared by that client's
//! statements; each statement takes a [`Snapshot`] of it when it starts, so that a later `USE` changes nothing
//! that already runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use meshwork_engine::connector::{Batch, ReadVersion};
use meshwork_engine::settings::QuerySettings;
use meshwork_engine::{Error, Result};
use parking_lot::Mutex;
use tokio::sync::Mutex as AsyncMutex;

/// Who a client is, as a front door found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user's name.
    pub user: String,
}

/// One client's session.
#[derive(Debug)]
pub struct Session {
    identity: Identity,
    state: Mutex<Snapshot>,
    pub(crate) batch: AsyncMutex<Option<OpenBatch>>,
}

/// An update batch that the client has begun; the catalog is chosen by the first insert.
#[derive(Debug, Default)]
pub(crate) struct OpenBatch {
    pub(crate) target: Option<(String, Box<dyn Batch>)>,
}

/// What a session says at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The catalog of names without one.
    pub catalog: Option<String>,
    /// The schema of names without one.
    pub schema: Option<String>,
    settings: BTreeMap<&'static str, String>,
}

/// One session setting: what it means and how it is checked.
#[derive(Debug)]
pub struct Setting {
    /// The name after `SET SESSION`.
    pub name: &'static str,
    /// The value when nothing is set.
    pub default: &'static str,
    /// What it does, with its unit.
    pub description: &'static str,
    check: fn(&str) -> bool,
}

/// All session settings, sorted by name.
pub const SETTINGS: &[Setting] = &[
    Setting {
        name: "batch_size",
        default: "8192",
        description: "rows in a batch between operators, 1 to 1000000",
        check: |value| in_range(value, 1, 1_000_000),
    },
    Setting {
        name: "dynamic_filter_wait_ms",
        default: "10000",
        description: "milliseconds that a scan of a row source waits for the keys of a join, 0 (not at all) to 600000",
        check: |value| in_range(value, 0, 600_000),
    },
    Setting {
        name: "pushdown",
        default: "true",
        description: "whether filters and limits may be moved into sources",
        check: |value| value.parse::<bool>().is_ok(),
    },
    Setting {
        name: "query_timeout_s",
        default: "86400",
        description: "seconds after which a query is cancelled, 1 to 604800",
        check: |value| in_range(value, 1, 604_800),
    },
    Setting {
        name: "read_version",
        default: "committed",
        description: "the version of versioned catalogs that queries read: committed, or a number",
        check: |value| value == "committed" || value.parse::<u64>().is_ok(),
    },
    Setting {
        name: "splits_max",
        default: "8",
        description: "most connections that one scan of a row source uses, 1 to 256",
        check: |value| in_range(value, 1, 256),
    },
    Setting {
        name: "target_partitions",
        default: "0",
        description: "partitions of each stage on one node, 1 to 1024; 0 means one per core",
        check: |value| in_range(value, 0, 1024),
    },
    Setting {
        name: "tasks_max",
        default: "0",
        description: "most tasks of one stage, 1 to 1024; 0 means as many as there are workers",
        check: |value| in_range(value, 0, 1024),
    },
    Setting {
        name: "verify_pushdown",
        default: "0",
        description: "share of queries, 0 to 1, that are asked again without pushdown; a rule whose rows differ is switched off",
        check: |value| value.parse::<f64>().is_ok_and(|share| (0.0..=1.0).contains(&share)),
    },
];

fn in_range(value: &str, min: u64, max: u64) -> bool {
    value.parse::<u64>().is_ok_and(|number| (min..=max).contains(&number))
}

impl Session {
    /// Returns a session with the given defaults for names.
    pub(crate) fn new(identity: Identity, defaults: Snapshot) -> Arc<Self> {
        Arc::new(Self { identity, state: Mutex::new(defaults), batch: AsyncMutex::default() })
    }

    /// Who the session belongs to.
    pub fn user(&self) -> &str {
        &self.identity.user
    }

    /// What the session says now.
    pub fn snapshot(&self) -> Snapshot {
        self.state.lock().clone()
    }

    /// The catalog of names without one.
    pub fn catalog(&self) -> Option<String> {
        self.state.lock().catalog.clone()
    }

    /// The schema of names without one.
    pub fn schema(&self) -> Option<String> {
        self.state.lock().schema.clone()
    }

    /// Changes the catalog of names without one; whether it exists shows when a name is resolved.
    pub fn set_catalog(&self, catalog: Option<String>) {
        self.state.lock().catalog = catalog;
    }

    /// Changes the schema of names without one.
    pub fn set_schema(&self, schema: Option<String>) {
        self.state.lock().schema = schema;
    }

    /// Changes a setting.
    ///
    /// # Errors
    /// `User` when there is no such setting or it does not take the value.
    pub fn set(&self, name: &str, value: &str) -> Result<()> {
        let setting = find(name)?;
        if !(setting.check)(value) {
            let message = format!("session setting {name} does not take the value {value:?}");
            return Err(Error::user("INVALID_SESSION_SETTING", message)
                .with_hint(format!("It is {}.", setting.description)));
        }
        self.state.lock().settings.insert(setting.name, value.to_owned());
        Ok(())
    }

    /// Gives a setting its default again.
    ///
    /// # Errors
    /// `User` when there is no such setting.
    pub fn reset(&self, name: &str) -> Result<()> {
        let setting = find(name)?;
        self.state.lock().settings.remove(setting.name);
        Ok(())
    }
}

fn find(name: &str) -> Result<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name).ok_or_else(|| {
        Error::user("INVALID_SESSION_SETTING", format!("session setting {name} does not exist"))
            .with_hint("SHOW SESSION lists the settings that exist.")
    })
}

impl Snapshot {
    /// Returns the value of a setting; the default if it was not set.
    pub fn get(&self, name: &'static str) -> &str {
        let default = || SETTINGS.iter().find(|s| s.name == name).map_or("", |s| s.default);
        self.settings.get(name).map_or_else(default, String::as_str)
    }

    fn number(&self, name: &'static str) -> usize {
        self.get(name).parse().unwrap_or_default()
    }

    /// The version of versioned catalogs that queries read.
    pub fn read_version(&self) -> ReadVersion {
        self.get("read_version").parse().map_or(ReadVersion::Committed, ReadVersion::At)
    }

    /// The share of queries that are asked again without pushdown.
    pub fn verify_pushdown(&self) -> f64 {
        self.get("verify_pushdown").parse().unwrap_or_default()
    }

    /// Seconds after which a query is cancelled.
    pub fn query_timeout_s(&self) -> u64 {
        self.number("query_timeout_s") as u64
    }

    /// Partitions of each stage on one node; `None` for one per core.
    pub fn target_partitions(&self) -> Option<usize> {
        Some(self.number("target_partitions")).filter(|n| *n > 0)
    }

    /// Most tasks of one stage; `None` for as many as there are workers.
    pub fn tasks_max(&self) -> Option<usize> {
        Some(self.number("tasks_max")).filter(|n| *n > 0)
    }

    /// Returns what travels with the tasks of a query.
    pub fn query_settings(&self, query_id: &str, user: &str, generation: u64) -> QuerySettings {
        let mut settings = QuerySettings::default();
        query_id.clone_into(&mut settings.query_id);
        user.clone_into(&mut settings.user);
        settings.catalogs_generation = generation;
        settings.pushdown = self.get("pushdown") == "true";
        settings.dynamic_filter_wait_ms = self.number("dynamic_filter_wait_ms") as u64;
        settings.splits_max = self.number("splits_max");
        settings.batch_size = self.number("batch_size");
        settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_checked_and_reset() {
        let session = Session::new(Identity { user: "ana".into() }, Snapshot::default());
        assert_eq!(session.set("splits_max", "0").unwrap_err().code, "INVALID_SESSION_SETTING");
        assert_eq!(session.set("no_such", "0").unwrap_err().code, "INVALID_SESSION_SETTING");
        session.set("read_version", "7").unwrap();
        assert_eq!(session.snapshot().read_version(), ReadVersion::At(7));
        session.reset("read_version").unwrap();
        assert_eq!(session.snapshot().read_version(), ReadVersion::Committed);
    }

    #[test]
    fn defaults_pass_their_own_checks() {
        for setting in SETTINGS {
            assert!((setting.check)(setting.default), "{}", setting.name);
        }
        assert!(SETTINGS.is_sorted_by_key(|setting| setting.name));
    }
}
