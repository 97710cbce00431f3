//! Golden packets: bytes in, bytes out, on plain memory; one file per behaviour.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod stage;

mod accounting;
mod any_bytes;
mod arp_and_nd;
mod back_pressure;
mod blackhole;
mod capture;
mod connected_hosts;
mod duplicate_address;
mod ecmp;
mod ethernet;
mod fast_validator;
mod fragmentation;
mod gateway_moves;
mod hold_queue;
mod icmp_errors;
mod ipv4_checks;
mod ipv4_forward;
mod ipv4_over_ipv6;
mod ipv6_checks;
mod ipv6_forward;
mod local_addresses;
mod longest_match;
mod loopback;
mod mtu;
mod neighbor_use;
mod on_link;
mod options;
mod orders;
mod own_packets;
mod recursive_next_hops;
mod reverse_path;
mod spread;
mod table_batches;
mod trace;
mod ttl;
mod vlan;
mod vrf;
