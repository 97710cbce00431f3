//! `fibcast top`: live view of a dataplane, twice a second, from the same answers that `show` prints.
//!
//! [`Sample`] holds the answers, [`Rates`] the difference of two samples, `draw` renders both.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::path::Path;
use std::time::{Duration, Instant};

use fibcast_control::status::Status;
use fibcast_control::tables::{DropList, PortList, WorkerList};
use fibcast_control::{Answer, DataplaneRequest, Request, ask};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Style, Stylize};
use ratatui::text::Line;
use ratatui::widgets::{Block, Cell, Row, Table};
use ratatui::{Frame, Terminal, backend::TestBackend};

/// What to show.
#[derive(Debug, clap::Args)]
pub struct Top {
    /// Milliseconds between two samples.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(100..=60_000))]
    interval: u64,
    /// Print one page as text after one interval, and exit; the default if the output is not a terminal.
    #[arg(long)]
    once: bool,
}

/// A daemon's answers at one time.
#[derive(Debug, Clone)]
struct Sample {
    at: Instant,
    status: Status,
    ports: PortList,
    workers: WorkerList,
    drops: DropList,
}

impl Sample {
    fn take(socket: &Path, timeout: Duration) -> Result<Sample, String> {
        let get = |request: Request| ask(socket, &request, timeout).map_err(|error| error.to_string());
        let other = || "the daemon gave another answer than it was asked for".to_owned();
        let Answer::Status(status) = get(Request::Status)? else { return Err(other()) };
        let Answer::Ports(ports) = get(DataplaneRequest::Ports.into())? else { return Err(other()) };
        let Answer::Workers(workers) = get(DataplaneRequest::Workers.into())? else { return Err(other()) };
        let Answer::Drops(drops) = get(DataplaneRequest::Drops.into())? else { return Err(other()) };
        Ok(Sample { at: Instant::now(), status: *status, ports, workers, drops })
    }
}

/// Rates per second between two samples.
#[derive(Debug, Clone, Default, PartialEq)]
struct Rates {
    /// By name: packets and bits received, packets and bits sent.
    ports: HashMap<String, [f64; 4]>,
    /// By port and reason.
    drops: HashMap<(String, String), f64>,
}

impl Rates {
    fn between(before: &Sample, after: &Sample) -> Rates {
        let seconds = after.at.saturating_duration_since(before.at).as_secs_f64().max(1e-3);
        // A restarted daemon counts from zero.
        let rate = |before: u64, after: u64| after.saturating_sub(before) as f64 / seconds;
        let mut rates = Rates::default();
        for port in &after.ports.ports {
            let Some(old) = before.ports.ports.iter().find(|old| old.name == port.name) else { continue };
            let all = [
                rate(old.rx_packets, port.rx_packets),
                rate(old.rx_bytes, port.rx_bytes) * 8.0,
                rate(old.tx_packets, port.tx_packets),
                rate(old.tx_bytes, port.tx_bytes) * 8.0,
            ];
            rates.ports.insert(port.name.clone(), all);
        }
        for drop in &after.drops.drops {
            let same = |old: &&fibcast_control::tables::DropCount| {
                (&old.port, &old.reason) == (&drop.port, &drop.reason)
            };
            let old = before.drops.drops.iter().find(same).map_or(0, |old| old.packets);
            rates.drops.insert((drop.port.clone(), drop.reason.clone()), rate(old, drop.packets));
        }
        rates
    }
}

/// Runs until the user types q.
pub fn run(top: &Top, socket: &Path, timeout: Duration) -> Result<(), String> {
    let interval = Duration::from_millis(top.interval);
    let first = Sample::take(socket, timeout)?;
    if top.once || !std::io::stdout().is_terminal() {
        std::thread::sleep(interval);
        let second = Sample::take(socket, timeout)?;
        let rates = Rates::between(&first, &second);
        return crate::output::say(&page(&second, &rates)?);
    }
    let mut terminal = ratatui::try_init().map_err(|error| error.to_string())?;
    let ended = live(&mut terminal, first, socket, timeout, interval);
    ratatui::restore();
    ended
}

fn live(
    terminal: &mut ratatui::DefaultTerminal,
    mut last: Sample,
    socket: &Path,
    timeout: Duration,
    interval: Duration,
) -> Result<(), String> {
    let mut rates = Rates::default();
    loop {
        terminal.draw(|frame| draw(frame, &last, &rates)).map_err(|error| error.to_string())?;
        let next = Instant::now() + interval;
        while let Some(left) = next.checked_duration_since(Instant::now()) {
            if !event::poll(left).map_err(|error| error.to_string())? {
                break;
            }
            match event::read().map_err(|error| error.to_string())? {
                Event::Key(key) if key.kind == KeyEventKind::Press => match key.code {
                    KeyCode::Char('q') | KeyCode::Esc => return Ok(()),
                    KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Ok(()),
                    _ => {}
                },
                Event::Resize(..) => break,
                _ => {}
            }
        }
        let sample = Sample::take(socket, timeout)?;
        rates = Rates::between(&last, &sample);
        last = sample;
    }
}

/// The page as text.
fn page(sample: &Sample, rates: &Rates) -> Result<String, String> {
    let rows = 12 + sample.ports.ports.len() + sample.workers.workers.len() + sample.drops.drops.len();
    let backend = TestBackend::new(118, u16::try_from(rows).unwrap_or(u16::MAX));
    let mut terminal = Terminal::new(backend).map_err(|error| error.to_string())?;
    terminal.draw(|frame| draw(frame, sample, rates)).map_err(|error| error.to_string())?;
    let buffer = terminal.backend().buffer();
    let width = usize::from(buffer.area.width);
    let mut text = String::new();
    for line in buffer.content.chunks(width) {
        let line: String = line.iter().map(|cell| cell.symbol()).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    Ok(text)
}

fn draw(frame: &mut Frame<'_>, sample: &Sample, rates: &Rates) {
    let (ports, workers) = (sample.ports.ports.len() as u16, sample.workers.workers.len() as u16);
    let [head, port_area, worker_area, drop_area] = Layout::vertical([
        Constraint::Length(3),
        Constraint::Length(ports + 3),
        Constraint::Length(workers + 3),
        Constraint::Min(3),
    ])
    .areas(frame.area());
    frame.render_widget(ratatui::widgets::Paragraph::new(headline(sample)), head);
    frame.render_widget(ports_table(sample, rates), port_area);
    frame.render_widget(workers_table(sample), worker_area);
    frame.render_widget(drops_table(sample, rates), drop_area);
}

fn headline(sample: &Sample) -> Vec<Line<'static>> {
    let status = &sample.status;
    let state = match (status.ready, status.stale) {
        (_, true) => "stale".red(),
        (true, false) => "ready".green(),
        (false, false) => "not ready".yellow(),
    };
    let mut first = vec![format!("{}  ", status.name).bold(), state];
    let table = &status.table;
    first.push(
        format!(
            "  {} IPv4 and {} IPv6 routes, serial {}",
            table.ipv4_routes, table.ipv6_routes, table.serial
        )
        .into(),
    );
    let forwarding = status.forwarding.as_ref().map(|known| {
        format!(
            "forwarding: {} routes, {} next hops ({} unresolved), {} batches pending, {} workers stalled",
            known.routes,
            known.next_hops,
            known.next_hops_unresolved,
            known.pending_batches,
            known.workers_stalled
        )
    });
    let servers = status.sync.as_ref().map(|sync| {
        let one = |server: &fibcast_control::status::ServerStatus| {
            format!(
                "{} {} ({}), lag {}",
                server.role,
                server.name.as_deref().unwrap_or(&server.address),
                server.state,
                server.lag
            )
        };
        format!("servers: {}", sync.servers.iter().map(one).collect::<Vec<_>>().join("; "))
    });
    let mut lines = vec![Line::from(first)];
    lines.extend([forwarding, servers].into_iter().flatten().map(Line::from));
    lines
}

fn ports_table(sample: &Sample, rates: &Rates) -> Table<'static> {
    let rows = sample.ports.ports.iter().map(|port| {
        let [rx, rx_bits, tx, tx_bits] = rates.ports.get(&port.name).copied().unwrap_or_default();
        let link = if port.link_up { Cell::from("up") } else { Cell::from("down".red()) };
        Row::new(vec![
            Cell::from(port.name.clone()),
            link,
            Cell::from(short(rx)),
            Cell::from(short(rx_bits)),
            Cell::from(short(tx)),
            Cell::from(short(tx_bits)),
            Cell::from(port.rx_missed.to_string()),
            Cell::from(port.tx_backpressure.to_string()),
        ])
    });
    let heads = [
        "port",
        "link",
        "rx packets/s",
        "rx bit/s",
        "tx packets/s",
        "tx bit/s",
        "rx missed",
        "tx backpressure",
    ];
    table(heads, rows, "ports")
}

fn workers_table(sample: &Sample) -> Table<'static> {
    let rows = sample.workers.workers.iter().map(|worker| {
        let state = if worker.stalled { Cell::from("stalled".red()) } else { Cell::from("fine") };
        Row::new(vec![
            Cell::from(worker.worker.to_string()),
            Cell::from(worker.core.to_string()),
            state,
            Cell::from(format!("{:.1}", worker.busy_percent)),
            Cell::from(format!("{:.1}", worker.cpu_percent)),
            Cell::from(worker.held.to_string()),
            Cell::from(worker.serial.to_string()),
            Cell::from(worker.icmp_sent.to_string()),
        ])
    });
    table(["worker", "core", "state", "busy %", "cpu %", "held", "serial", "icmp errors"], rows, "workers")
}

fn drops_table(sample: &Sample, rates: &Rates) -> Table<'static> {
    let rate = |port: &String, reason: &String| {
        rates.drops.get(&(port.clone(), reason.clone())).copied().unwrap_or(0.0)
    };
    let mut drops: Vec<_> = sample.drops.drops.iter().collect();
    // The top drop reason comes first.
    drops.sort_by(|a, b| {
        rate(&b.port, &b.reason).total_cmp(&rate(&a.port, &a.reason)).then(b.packets.cmp(&a.packets))
    });
    let rows = drops.into_iter().map(|drop| {
        let rate = rate(&drop.port, &drop.reason);
        let style = if rate > 0.0 { Style::new().yellow() } else { Style::new() };
        Row::new(vec![drop.port.clone(), drop.reason.clone(), short(rate), drop.packets.to_string()])
            .style(style)
    });
    let list = &sample.drops;
    let title = format!(
        "drops: received {} = sent {} + dropped {} + host {} + held {}",
        list.received, list.sent, list.dropped, list.host, list.held
    );
    table(["port", "reason", "packets/s", "packets"], rows, title)
}

fn table<const N: usize>(
    heads: [&'static str; N],
    rows: impl Iterator<Item = Row<'static>>,
    title: impl Into<String>,
) -> Table<'static> {
    Table::new(rows, [Constraint::Fill(1); N])
        .header(Row::new(heads).style(Style::new().bold()))
        .block(Block::new().title(Line::from(title.into()).bold()))
}

/// Three digits and a unit prefix.
fn short(value: f64) -> String {
    let steps = [(1e9, "G"), (1e6, "M"), (1e3, "k")];
    match steps.iter().find(|(unit, _)| value >= *unit) {
        Some((unit, letter)) => format!("{:.2} {letter}", value / unit),
        None => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fibcast_control::tables::DropCount;

    fn sample(packets: u64, drops: u64) -> Sample {
        let status = r#"{"name":"nh-1","kind":"dataplane","version":"0","pid":1,"uptime_ms":1,"resident_bytes":1,"ready":true,
            "stale":false,"table":{"epoch":1,"serial":9,"ipv4_routes":5,"ipv6_routes":6,"groups":1,"records":1,"digest":"","changes":1}}"#;
        let ports = format!(
            r#"{{"ports":[{{"name":"p0","device":"","driver":"","mac":"","link_up":false,"mtu":1500,"addresses":[],
            "rx_packets":{packets},"rx_bytes":{},"tx_packets":0,"tx_bytes":0,"rx_missed":0}}]}}"#,
            packets * 100
        );
        Sample {
            at: Instant::now(),
            status: serde_json::from_str(status).unwrap(),
            ports: serde_json::from_str(&ports).unwrap(),
            workers: WorkerList::default(),
            drops: DropList {
                received: packets,
                dropped: drops,
                drops: vec![DropCount { port: "p0".into(), reason: "no_route".into(), packets: drops }],
                ..DropList::default()
            },
        }
    }

    #[test]
    fn rates_are_of_a_second_and_a_restart_is_no_rate() {
        let before = sample(1_000, 10);
        let mut after = sample(3_000, 30);
        after.at = before.at + Duration::from_secs(2);
        let rates = Rates::between(&before, &after);
        assert_eq!(rates.ports["p0"], [1_000.0, 800_000.0, 0.0, 0.0]);
        assert_eq!(rates.drops[&("p0".into(), "no_route".into())], 10.0);
        assert_eq!(Rates::between(&after, &before).ports["p0"], [0.0; 4]);
    }

    #[test]
    fn a_screen_has_ports_drops_and_the_sum() {
        let before = sample(1_000, 10);
        let mut after = sample(3_000, 30);
        after.at = before.at + Duration::from_secs(2);
        let text = page(&after, &Rates::between(&before, &after)).unwrap();
        assert!(
            text.contains("nh-1  ready") && text.contains("5 IPv4 and 6 IPv6 routes, serial 9"),
            "{text}"
        );
        let port = text.lines().find(|line| line.starts_with("p0")).unwrap();
        assert!(port.contains("down") && port.contains("1.00 k") && port.contains("800.00 k"), "{text}");
        assert!(text.contains("received 3000 = sent 0 + dropped 30 + host 0 + held 0"), "{text}");
        assert!(text.lines().any(|line| line.contains("no_route") && line.contains("10")), "{text}");
    }
}
