//! Writing to relational sources and stores: what is there after statements that end well, fail, are cancelled, or whose node is
//! killed. Real servers, on one process and on a coordinator with workers.

mod exports;
mod kills;
mod mariadb;
mod postgres;
mod readers;
mod rollups;
mod sqlite;
mod store;
mod trial;

use tokio::sync::Mutex;

/// The tests share servers, and look at what runs there.
static TURN: Mutex<()> = Mutex::const_new(());
