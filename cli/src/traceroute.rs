//! `fibcast traceroute`: echo requests with growing TTL by the router's own table, in the form of traceroute(8) with `--icmp`.

use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fibcast_control::probe::{MAX_SIZE, ProbeOutcome, Probed};
use serde::Serialize;

use crate::output::say;
use crate::ping::{Common, probe, time};
use crate::{interrupt, json};

/// Traces the way to an address from a dataplane. Requests leave by the port that its own table chooses.
#[derive(Debug, clap::Args)]
pub struct Traceroute {
    /// Destination.
    address: IpAddr,
    /// TTL or hop limit of the first request.
    #[arg(short, long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    first_ttl: u8,
    /// The largest TTL or hop limit.
    #[arg(short = 'm', long, default_value_t = 30, value_parser = clap::value_parser!(u8).range(1..))]
    max_ttl: u8,
    /// Requests for each TTL.
    #[arg(short = 'q', long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=10))]
    queries: u8,
    /// Bytes of data.
    #[arg(short, long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(0..=i64::from(MAX_SIZE)))]
    size: u16,
    #[command(flatten)]
    common: Common,
}

/// A line of JSON for each TTL.
#[derive(Debug, Serialize)]
struct Hop {
    ttl: u8,
    probes: Vec<Probed>,
}

/// Traces until the destination answers, an error says that there is no way, or the largest TTL is reached.
pub fn run(options: &Traceroute, socket: &Path, timeout: Duration, as_json: bool) -> Result<(), String> {
    let interrupted = interrupt::flag().map_err(|error| format!("signals: {error}"))?;
    let mut connection = options.common.connect(socket, timeout)?;
    if !as_json {
        let whole = u32::from(options.size) + if options.address.is_ipv4() { 28 } else { 48 };
        let (address, most) = (options.address, options.max_ttl);
        say(&format!("traceroute to {address} ({address}), {most} hops max, {whole} byte packets\n"))?;
    }
    for ttl in options.first_ttl..=options.max_ttl {
        let mut hop = Hop { ttl, probes: Vec::new() };
        for _ in 0..options.queries {
            if interrupted.load(Ordering::Relaxed) {
                return Ok(());
            }
            let request = options.common.request(options.address, options.size, ttl);
            hop.probes.push(probe(&mut connection, &request)?);
        }
        say(&if as_json { json::line(&hop)? } else { line(&hop) })?;
        let mut answers = hop.probes.iter().filter_map(|probed| probed.answer.as_ref());
        if answers.any(|answer| answer.outcome != ProbeOutcome::TimeExceeded) {
            return Ok(());
        }
    }
    Ok(())
}

/// ` 1  192.0.2.9  0.412 ms  0.380 ms  *`: a router's address before its first time, `!H`, `!N` and so on behind errors.
fn line(hop: &Hop) -> String {
    let (mut text, mut before) = (format!("{:2} ", hop.ttl), None);
    for probed in &hop.probes {
        let Some(answer) = &probed.answer else {
            text += " *";
            continue;
        };
        if before != Some(answer.from) {
            text += &format!(" {} ", answer.from);
            before = Some(answer.from);
        }
        let mark = match (answer.outcome, answer.code) {
            (ProbeOutcome::Reply | ProbeOutcome::TimeExceeded, _) => String::new(),
            (ProbeOutcome::TooBig, _) => format!(" !F-{}", answer.mtu.unwrap_or(0)),
            (ProbeOutcome::Unreachable, Some(0)) => " !N".to_owned(),
            (ProbeOutcome::Unreachable, Some(1)) if answer.from.is_ipv4() => " !H".to_owned(),
            (ProbeOutcome::Unreachable, Some(3)) if answer.from.is_ipv6() => " !H".to_owned(),
            (ProbeOutcome::Unreachable, Some(9 | 10 | 13)) if answer.from.is_ipv4() => " !X".to_owned(),
            (ProbeOutcome::Unreachable, Some(1)) => " !X".to_owned(),
            (ProbeOutcome::Unreachable, code) => format!(" !<{}>", code.unwrap_or(0)),
        };
        text += &format!(" {} ms{mark} ", time(answer.rtt_us));
    }
    text.trim_end().to_owned() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use fibcast_control::probe::ProbeAnswer;

    #[test]
    fn a_hop_is_a_line_as_in_traceroute() {
        let probed = |from: &str, outcome, code| Probed {
            source: "192.0.2.1".parse().unwrap(),
            port: None,
            answer: Some(ProbeAnswer {
                from: from.parse().unwrap(),
                outcome,
                code,
                mtu: None,
                ttl: 64,
                bytes: 64,
                rtt_us: 412,
            }),
        };
        let silent = Probed { answer: None, ..probed("192.0.2.9", ProbeOutcome::Reply, None) };
        let exceeded = |from| probed(from, ProbeOutcome::TimeExceeded, None);
        let of = |probes| line(&Hop { ttl: 7, probes });
        assert_eq!(
            of(vec![exceeded("192.0.2.9"), exceeded("192.0.2.9")]),
            " 7  192.0.2.9  0.412 ms  0.412 ms\n"
        );
        assert_eq!(of(vec![silent.clone(), silent.clone(), silent.clone()]), " 7  * * *\n");
        assert_eq!(
            of(vec![exceeded("192.0.2.9"), exceeded("192.0.2.8")]),
            " 7  192.0.2.9  0.412 ms  192.0.2.8  0.412 ms\n"
        );
        let unreachable = |code| probed("192.0.2.9", ProbeOutcome::Unreachable, Some(code));
        assert_eq!(of(vec![unreachable(1), unreachable(13)]), " 7  192.0.2.9  0.412 ms !H  0.412 ms !X\n");
        let v6 = |code| probed("2001:db8::9", ProbeOutcome::Unreachable, Some(code));
        assert_eq!(of(vec![v6(0), v6(3)]), " 7  2001:db8::9  0.412 ms !N  0.412 ms !H\n");
    }
}
