//! Benchmarks, traffic generator and demo.

pub mod tablegen;
