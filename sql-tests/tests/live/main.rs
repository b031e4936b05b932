//! Sources that live: many queries at once over few connections. Real servers, real processes.

mod budget;
