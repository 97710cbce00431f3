//! What tests, benchmarks and the demo have in common: tables with next hops ([`tablegen`]).
//!
//! Programs: `fibcast-tablegen` writes such tables and their changes as MRT files, `fibcast-bgp-player` tells them by BGP.

pub mod tablegen;
