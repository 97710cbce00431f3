//! Benchmarks, traffic generator and demo.
