//! What sources say of their tables, how near the estimates that follow are, and what plans make of them.

mod joins;
mod mariadb;
mod postgres;
mod qerror;
mod sqlite;
