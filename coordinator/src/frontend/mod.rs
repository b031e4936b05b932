//! The front doors: SQL text comes in, rows go out. Today there is one, [`flight_sql`].
//!
//! A door encodes and decodes; it never plans, never touches a source and never decides who may see
//! what. Every statement goes through [`crate::Coordinator`]. [`users`] says who is calling, for
//! all doors alike; [`sql_text`] cuts SQL text without parsing it.

pub mod flight_sql;
pub mod sql_text;
pub mod users;
