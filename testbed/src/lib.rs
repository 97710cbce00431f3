//! Shared parts of tests, benchmarks and the demo: tables with next hops ([`tablegen`]).
//!
//! Programs: `fibcast-tablegen` writes such tables and their changes as MRT files, `fibcast-bgp-player` announces them by BGP.

pub mod tablegen;
