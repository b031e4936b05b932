//! What all connectors to SQL databases share: one `SELECT` per split, and the walk of a negotiation.
//!
//! ```text
//! negotiate::answer(scan, offer, rules)          planning: rules answer for one column, parts combined here
//! select(dialect, scan, split condition)        execution: RemoteScan -> text of one statement
//! Columns, stream_of                            execution: values of a driver -> batches -> stream
//! bound, create_table, rows_refused             writing: batches -> values of a driver; what all writers say
//! ```
//! Values become text here and nowhere else, because `COPY` takes no parameters: a [`Dialect`] writes each
//! literal so that no value can change the shape of the statement, and refuses what it cannot write.
//! Nothing here talks to a server or knows a type system; both are the connector's.

mod asker;
mod bind;
mod change;
mod columns;
mod decimal;
mod dialect;
mod full;
mod kept;
pub mod negotiate;
mod select;
mod stream;
mod texts;
mod write;

pub use asker::{PRODUCT, asker};
pub use bind::{Bound, bound};
pub use change::change_statement;
pub use columns::{Cell, Column, Columns, bytes_of, counted};
pub use decimal::{TOTAL_DIGITS, decimal, decimal_cell, wide_decimal};
pub use dialect::{
    Dialect, date_text, finite, hexadecimal, standard_comparison, standard_list, standard_string,
    timestamp_text,
};
pub use full::while_full;
pub use kept::{Closing, Kept, Line, Open};
pub use negotiate::{Agreement, Rules, Test};
pub use select::{condition, select};
pub use stream::{BATCHES_AHEAD, consumer_gone, stream_of, while_there};
pub use texts::Texts;
pub use write::{
    create_table, identifiers, outcome_unknown, qualified, read_only, refuse_options, relation,
    rows_refused, table_exists,
};
