//! `fibcast ping`: echo requests by the router's own table, with results in the form of ping(8) of iputils.

use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fibcast_control::client::Connection;
use fibcast_control::probe::{MAX_SIZE, MAX_TIMEOUT_MS, ProbeAnswer, ProbeOutcome, ProbeRequest, Probed};
use fibcast_control::{Answer, DataplaneRequest};
use serde::Serialize;

use crate::output::say;
use crate::{interrupt, json};

/// Header of an ICMP echo message, and of the packets that carry it.
const ECHO: u32 = 8;
const HEADERS: [u32; 2] = [20, 40];

/// Pings an address from a dataplane. Requests leave by the port that its own table chooses.
#[derive(Debug, clap::Args)]
pub struct Ping {
    /// Destination.
    address: IpAddr,
    /// Stop after this many requests; default: when interrupted.
    #[arg(short, long, value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Seconds between two requests.
    #[arg(short, long, default_value = "1", value_parser = seconds)]
    interval: Duration,
    /// Bytes of data.
    #[arg(short, long, default_value_t = 56, value_parser = clap::value_parser!(u16).range(0..=i64::from(MAX_SIZE)))]
    size: u16,
    /// TTL or hop limit.
    #[arg(short, long, default_value_t = 64, value_parser = clap::value_parser!(u8).range(1..))]
    ttl: u8,
    #[command(flatten)]
    common: Common,
}

/// What a trace has as well.
#[derive(Debug, clap::Args)]
pub struct Common {
    /// An address of the router as the source; default: that of the port, then of the loopback.
    #[arg(short = 'I', long, value_name = "ADDRESS")]
    source: Option<IpAddr>,
    /// Seconds to wait for each answer.
    #[arg(short = 'W', long, default_value = "1", value_parser = seconds)]
    wait: Duration,
    /// VRF.
    #[arg(long, default_value_t = 0)]
    vrf: u32,
}

impl Common {
    /// A connection for requests whose answers take as long as the wait.
    pub fn connect(&self, socket: &Path, timeout: Duration) -> Result<Connection, String> {
        Connection::open(socket, timeout + self.wait).map_err(|error| error.to_string())
    }

    pub fn request(&self, address: IpAddr, size: u16, ttl: u8) -> ProbeRequest {
        let timeout_ms = self.wait.as_millis() as u32;
        ProbeRequest { address, source: self.source, vrf: self.vrf, size, ttl, timeout_ms }
    }
}

/// A time within the bounds of a request, from 10 ms on: an operator is no generator of traffic.
fn seconds(text: &str) -> Result<Duration, String> {
    let most = f64::from(MAX_TIMEOUT_MS) / 1e3;
    let expected = || format!("expected 0.01 to {most} seconds");
    let seconds: f64 = text.parse().map_err(|_| expected())?;
    if (0.01..=most).contains(&seconds) { Ok(Duration::from_secs_f64(seconds)) } else { Err(expected()) }
}

/// One request and its answer.
pub fn probe(connection: &mut Connection, request: &ProbeRequest) -> Result<Probed, String> {
    match connection.ask(&DataplaneRequest::Probe(Box::new(request.clone())).into()) {
        Ok(Answer::Probed(probed)) => Ok(*probed),
        Ok(_) => Err("the daemon gave another answer than what it was asked for".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// A line of JSON for each request.
#[derive(Debug, Serialize)]
struct Line<'a> {
    sequence: u64,
    #[serde(flatten)]
    probed: &'a Probed,
}

/// Round-trip times.
#[derive(Debug, Default)]
struct Statistics {
    sent: u64,
    received: u64,
    errors: u64,
    times: Vec<f64>,
}

/// Sends requests until the count is reached or an interrupt comes. Without a reply at all it fails, as ping(8) does.
pub fn run(ping: &Ping, socket: &Path, timeout: Duration, as_json: bool) -> Result<(), String> {
    let interrupted = interrupt::flag().map_err(|error| format!("signals: {error}"))?;
    let mut connection = ping.common.connect(socket, timeout)?;
    let request = ping.common.request(ping.address, ping.size, ping.ttl);
    let (begun, mut statistics) = (Instant::now(), Statistics::default());
    while !interrupted.load(Ordering::Relaxed) && ping.count.is_none_or(|count| statistics.sent < count) {
        let at = Instant::now();
        let probed = probe(&mut connection, &request)?;
        if statistics.sent == 0 && !as_json {
            say(&heading(ping, &probed))?;
        }
        statistics.count(&probed);
        let sequence = statistics.sent;
        say(&if as_json {
            json::line(&Line { sequence, probed: &probed })?
        } else {
            line(sequence, &probed)
        })?;
        let last = ping.count.is_some_and(|count| statistics.sent >= count);
        if !last {
            rest(at + ping.interval, &interrupted);
        }
    }
    if !as_json {
        say(&statistics.text(ping.address, begun.elapsed()))?;
    }
    if statistics.received == 0 { Err(format!("{} does not answer", ping.address)) } else { Ok(()) }
}

/// Waits until the next request is due; not after an interrupt.
fn rest(until: Instant, interrupted: &AtomicBool) {
    const STEP: Duration = Duration::from_millis(20);
    while !interrupted.load(Ordering::Relaxed) {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(STEP));
    }
}

fn heading(ping: &Ping, probed: &Probed) -> String {
    let Ping { address, size, .. } = ping;
    let whole = u32::from(*size) + ECHO + if address.is_ipv4() { HEADERS[0] } else { HEADERS[1] };
    let port = probed.port.as_ref().map(|port| format!(" {port}")).unwrap_or_default();
    format!("PING {address} ({address}) from {}{port}: {size}({whole}) bytes of data.\n", probed.source)
}

fn line(sequence: u64, probed: &Probed) -> String {
    let Some(answer) = &probed.answer else { return format!("no answer yet for icmp_seq={sequence}\n") };
    match answer.outcome {
        ProbeOutcome::Reply => format!(
            "{} bytes from {}: icmp_seq={sequence} ttl={} time={} ms\n",
            answer.bytes,
            answer.from,
            answer.ttl,
            time(answer.rtt_us)
        ),
        _ => format!("From {} icmp_seq={sequence} {}\n", answer.from, words(answer)),
    }
}

/// Milliseconds with three digits, as ping(8) writes them.
pub fn time(us: u64) -> String {
    let ms = us as f64 / 1e3;
    match ms {
        ..10.0 => format!("{ms:.3}"),
        10.0..100.0 => format!("{ms:.2}"),
        _ => format!("{ms:.1}"),
    }
}

/// An error in the words of ping(8).
fn words(answer: &ProbeAnswer) -> String {
    let v4 = answer.from.is_ipv4();
    match (answer.outcome, answer.code) {
        (ProbeOutcome::Reply, _) => "Echo Reply".to_owned(),
        (ProbeOutcome::TimeExceeded, _) if v4 => "Time to live exceeded".to_owned(),
        (ProbeOutcome::TimeExceeded, _) => "Time exceeded: Hop limit".to_owned(),
        (ProbeOutcome::TooBig, _) => format!("Packet too big (mtu = {})", answer.mtu.unwrap_or(0)),
        (ProbeOutcome::Unreachable, code) => {
            let what = match (v4, code) {
                (true, Some(0)) => "Net Unreachable",
                (true, Some(1)) => "Host Unreachable",
                (true, Some(2)) => "Protocol Unreachable",
                (true, Some(3)) => "Port Unreachable",
                (true, Some(9 | 10 | 13)) => "administratively prohibited",
                (false, Some(0)) => "No route",
                (false, Some(1)) => "Administratively prohibited",
                (false, Some(3)) => "Address unreachable",
                (false, Some(4)) => "Port unreachable",
                _ => return format!("Destination unreachable, code {}", code.unwrap_or(0)),
            };
            if v4 { format!("Destination {what}") } else { format!("Destination unreachable: {what}") }
        }
    }
}

impl Statistics {
    fn count(&mut self, probed: &Probed) {
        self.sent += 1;
        match &probed.answer {
            Some(answer) if answer.outcome == ProbeOutcome::Reply => {
                self.received += 1;
                self.times.push(answer.rtt_us as f64 / 1e3);
            }
            Some(_) => self.errors += 1,
            None => {}
        }
    }

    fn text(&self, address: IpAddr, lasted: Duration) -> String {
        let lost = (self.sent - self.received) as f64 * 100.0 / self.sent.max(1) as f64;
        // Six significant digits without zeros at the end, as `%g` of C.
        let lost = format!("{lost:.4}").trim_end_matches('0').trim_end_matches('.').to_owned();
        let errors = if self.errors > 0 { format!(", +{} errors", self.errors) } else { String::new() };
        let mut text = format!(
            "\n--- {address} ping statistics ---\n{} packets transmitted, {} received{errors}, {lost}% packet loss, time {}ms\n",
            self.sent,
            self.received,
            lasted.as_millis()
        );
        if !self.times.is_empty() {
            let count = self.times.len() as f64;
            let average = self.times.iter().sum::<f64>() / count;
            let squares = self.times.iter().map(|time| time * time).sum::<f64>() / count;
            let deviation = (squares - average * average).max(0.0).sqrt();
            let least = self.times.iter().copied().fold(f64::INFINITY, f64::min);
            let most = self.times.iter().copied().fold(0.0, f64::max);
            text += &format!("rtt min/avg/max/mdev = {least:.3}/{average:.3}/{most:.3}/{deviation:.3} ms\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probed(answer: Option<(ProbeOutcome, u64)>) -> Probed {
        let from = "192.0.2.9".parse().unwrap();
        let answer = answer.map(|(outcome, rtt_us)| ProbeAnswer {
            from,
            outcome,
            code: (outcome == ProbeOutcome::Unreachable).then_some(1),
            mtu: None,
            ttl: 63,
            bytes: 64,
            rtt_us,
        });
        Probed { source: "192.0.2.1".parse().unwrap(), port: Some("p0".into()), answer }
    }

    #[test]
    fn lines_and_statistics_are_those_of_iputils() {
        let mut statistics = Statistics::default();
        let all = [
            Some((ProbeOutcome::Reply, 412)),
            Some((ProbeOutcome::Reply, 12_346)),
            None,
            Some((ProbeOutcome::TimeExceeded, 9)),
        ];
        let mut text = String::new();
        for answer in all {
            let probed = probed(answer);
            statistics.count(&probed);
            text += &line(statistics.sent, &probed);
        }
        text += &statistics.text("192.0.2.9".parse().unwrap(), Duration::from_millis(3004));
        let expected = "\
64 bytes from 192.0.2.9: icmp_seq=1 ttl=63 time=0.412 ms
64 bytes from 192.0.2.9: icmp_seq=2 ttl=63 time=12.35 ms
no answer yet for icmp_seq=3
From 192.0.2.9 icmp_seq=4 Time to live exceeded

--- 192.0.2.9 ping statistics ---
4 packets transmitted, 2 received, +1 errors, 50% packet loss, time 3004ms
rtt min/avg/max/mdev = 0.412/6.379/12.346/5.967 ms
";
        assert_eq!(text, expected);
        let unreachable = probed(Some((ProbeOutcome::Unreachable, 1)));
        assert_eq!(line(1, &unreachable), "From 192.0.2.9 icmp_seq=1 Destination Host Unreachable\n");
        statistics.sent = 3;
        assert!(
            statistics.text("192.0.2.9".parse().unwrap(), Duration::ZERO).contains("33.3333% packet loss")
        );
    }

    #[test]
    fn times_have_bounds() {
        assert_eq!(seconds("0.2"), Ok(Duration::from_millis(200)));
        for wrong in ["0", "11", "-1", "x", "NaN", "inf"] {
            assert_eq!(seconds(wrong), Err("expected 0.01 to 10 seconds".into()), "{wrong}");
        }
    }
}
