//! `fibcast-pktgen`: simulates all hosts and next hops around one device, checks every packet that it forwards, and measures how many.
//!
//! It shares no code with the router: longest matches come from another crate, packets are built and checked here.
//!
//! | module | role |
//! |---|---|
//! | `scenario`, `args`, `port` | what is to be done: a TOML file, and options that override its keys |
//! | `rate`, `pacer`, `clock` | packets/s; open loop by the time-stamp counter |
//! | `plan` | which next hop is right when; changes at a rate |
//! | `traffic` | frames, sizes, destinations, captures |
//! | `neighbor` | ARP and neighbor discovery |
//! | `events` | commands at chosen times |
//! | `ledger`, `outage`, `latency`, `convergence` | packets in flight, outages, delays, how soon changes count |
//! | `engine` | all of it without I/O, one for each core; tests drive it |
//! | `trial` | a load, and what became of it |
//! | `search` | tests over trials: pure functions |
//! | `devices` | DPDK ports around the engines, a packet loop for each core |
//! | `work`, `bench` | the whole run; tests of several trials |
//! | `report`, `serve` | the figures, and the control socket |
//!
//! ```text
//! scenario ─▶ plan, frames ─▶ engine ◀─ frames ─▶ devices (DPDK)
//!                              ▲   │
//!                         load │   │ trial
//!                              │   ▼
//!                             search ─▶ report
//! ```
//!
//! Data flow of a packet: the pacer says how many are due; `order` names a flow, `frames` copies a template and fills in what differs;
//! the ledger notes the time under its sequence number. What comes back is recognised by its signature, compared as a whole with what the
//! device had to make of it, looked up in the ledger (lost, late, duplicate) and judged by the plan (right next hop, right port).

mod args;
mod bench;
mod checksum;
mod clock;
mod convergence;
mod devices;
mod engine;
mod events;
mod frame;
mod input;
mod latency;
mod ledger;
mod neighbor;
mod outage;
mod pacer;
mod plan;
mod port;
mod rate;
mod report;
mod scenario;
mod search;
mod serve;
#[cfg(test)]
mod tests;
mod traffic;
mod trial;
mod work;

use std::process::ExitCode;

use clap::Parser;

use crate::args::Arguments;

/// As clap has it.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let complain = |words: &dyn std::fmt::Display| eprintln!("fibcast-pktgen: {words}");
    let scenario = match arguments.scenario() {
        Ok(scenario) => scenario,
        Err(words) => {
            complain(&words);
            return ExitCode::from(USAGE);
        }
    };
    match work::work(&arguments, &scenario) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            complain(&failure);
            ExitCode::from(if failure.is_usage() { USAGE } else { 1 })
        }
    }
}
