//! Golden packets: bytes in, bytes out, on plain memory; one file per behaviour.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod stage;

mod any_bytes;
mod arp_and_nd;
mod back_pressure;
mod blackhole;
mod connected_hosts;
mod ethernet;
mod gateway_moves;
mod ipv4_checks;
mod ipv4_forward;
mod ipv6_checks;
mod ipv6_forward;
mod local_addresses;
mod mtu;
mod table_batches;
mod ttl;
