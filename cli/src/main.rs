//! The one binary of Meshwork.

fn main() {}
