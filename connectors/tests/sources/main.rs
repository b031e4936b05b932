//! Each source behind the contract: catalogs are made from properties, queries run through DataFusion.

mod harness;
mod lake;
mod rest;
mod tpch;
