//! Settings of one query that every node taking part needs: they travel with its tasks.

use datafusion::common::extensions_options;
use datafusion::config::{ConfigExtension, ConfigOptions};
use datafusion::execution::config::SessionConfig;

/// The zone that timestamps with a zone are in, on every node.
const TIME_ZONE: &str = "+00:00";
/// Keys of a build side, of a partition, that become a list for the scan on the other side; of more only the bounds do.
/// A database finds rows by many keys; a scan of files gains little from a list, and looks it up for each file.
pub const JOIN_KEYS_MAX_FOR_FILES: usize = 150;
/// See [`JOIN_KEYS_MAX_FOR_FILES`].
pub const JOIN_KEYS_MAX_FOR_ROW_SOURCES: usize = 1_000;
/// The longest key that a list is made of, on average.
const JOIN_KEY_BYTES_MAX: usize = 80;

/// Sets what coordinator and workers have to have alike.
pub fn set_for_all_nodes(options: &mut ConfigOptions, settings: &QuerySettings) {
    // Without a zone `TIMESTAMP WITH TIME ZONE` would be a timestamp without one.
    options.execution.time_zone = Some(TIME_ZONE.to_owned());
    let n_keys = settings.join_keys_max;
    options.optimizer.hash_join_inlist_pushdown_max_distinct_values = n_keys;
    options.optimizer.hash_join_inlist_pushdown_max_size =
        n_keys.saturating_mul(JOIN_KEY_BYTES_MAX);
}

extensions_options! {
    /// What a task knows about its query. Shipped to workers; holds no secret.
    pub struct QuerySettings {
        /// The query's id, as users see it.
        pub query_id: String, default = String::new()
        /// Who runs the query.
        pub user: String, default = String::new()
        /// The generation of the catalog list that the plan was made with.
        pub catalogs_generation: u64, default = 0
        /// Whether work may be moved into sources at all.
        pub pushdown: bool, default = true
        /// Rules by which nothing is moved, as `remote::encoded_rules` writes them.
        pub rules_off: String, default = String::new()
        /// How long a scan waits for the keys of the other side of a join, in milliseconds; 0 means not at all.
        pub dynamic_filter_wait_ms: u64, default = 10_000
        /// The most keys of a join that become a list for the scan on its other side.
        pub join_keys_max: usize, default = JOIN_KEYS_MAX_FOR_FILES
        /// The most splits that one scan of a row source is cut into; 1 means one connection.
        pub splits_max: usize, default = 8
        /// Rows in a batch that a scan emits.
        pub batch_size: usize, default = 8192
    }
}

impl ConfigExtension for QuerySettings {
    const PREFIX: &'static str = "meshwork";
}

impl QuerySettings {
    /// Returns the settings of the session, or the defaults where it has none.
    pub fn of(config: &SessionConfig) -> Self {
        config.options().extensions.get::<Self>().cloned().unwrap_or_default()
    }
}
