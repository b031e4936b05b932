//! Catalogs of a whole server: broken ones beside healthy ones, and the secrets in them.

mod broken;
mod secrets;

use tokio::sync::Mutex;

/// The tests make the same tables and users on servers that they share.
static TURN: Mutex<()> = Mutex::const_new(());
