//! Sources that live: many queries at once over few connections, rules that turn out to be wrong.

mod budget;
mod verify;
