//! Sources, RIB, best path and fan-out of one routing table.
//!
//! Where to begin: [`mrt`] reads what collectors record.

pub mod mrt;
