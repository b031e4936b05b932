//! The referee: random queries over random tables, asked with pushdown, without, and of local copies. All answers must be
//! equal.
//!
//! ```text
//! sites       the sources, and what their tables are made of     memory      the catalog of copies
//! values      what tables hold and conditions compare with       arena       coordinators of this process
//! tables      random tables                                      world       the tables of a round, laid and copied
//! draw        random queries                                     judge       one query, three answers
//! query       queries as trees      smaller     ... and how to make them smaller
//! shrink      a failure made small                               faults      wrong rules that must be found
//! exercised   what was really moved into sources                 known       what is left out, and why
//! run         rounds of cases, and their report
//! ```
//! A seed and the number of a case decide everything but the plans of the engine; nothing else may be random here.
//! Cases are in rounds: one round is one set of tables, laid in their sources for it and removed after it.

mod arena;
mod draw;
mod exercised;
mod faults;
mod judge;
mod known;
mod memory;
mod query;
mod run;
mod shrink;
mod sites;
mod smaller;
mod tables;
mod values;
mod world;

pub use arena::Arena;
pub use exercised::Exercised;
pub use faults::Fault;
pub use known::{KNOWN, Known};
pub use run::{Plan, Report, run};
pub use shrink::Example;
pub use sites::Kind;
pub use values::Class;
