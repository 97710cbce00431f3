//! `fibcast capture`: reads captured packets from a dataplane and writes them as pcapng.
//!
//! The format is that of draft-ietf-opsawg-pcapng: a section header, an interface description for each port, an enhanced packet block for
//! each packet with its direction and, for a dropped one, the reason as comment.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use fibcast_control::capture::{Captured, CapturedPacket, Direction};
use fibcast_control::client::Connection;
use fibcast_control::{Answer, DataplaneRequest};

use crate::interrupt;

/// Pause between two reads without packets.
const PAUSE: Duration = Duration::from_millis(50);

/// What to capture, and where to write it.
#[derive(Debug, clap::Args)]
pub struct Capture {
    /// Output file, pcapng; `-` is standard output.
    #[arg(short, long, value_name = "FILE")]
    write: PathBuf,
    /// Name of a port; default: all.
    #[arg(long)]
    port: Option<String>,
    /// in, out or drop; may be repeated; default: all.
    #[arg(long)]
    direction: Vec<Direction>,
    /// As in pcap-filter(7): ip, ip6, arp, icmp, icmp6, tcp, udp, [src|dst] host ADDRESS | net PREFIX | port NUMBER, joined by "and" and "or" (from
    /// left to right, neither before the other), with "not" and parentheses.
    #[arg(long, default_value = "")]
    filter: String,
    /// Stop after this many packets; default: when interrupted.
    #[arg(long)]
    count: Option<u64>,
    /// Stop after this many seconds.
    #[arg(long)]
    seconds: Option<u64>,
}

/// Captures until a limit is reached or a signal comes; returns a summary. The capture ends with the connection, so also when this process is
/// killed.
pub fn run(capture: &Capture, socket: &Path, timeout: Duration) -> Result<String, String> {
    let interrupted = interrupt::flag().map_err(|error| format!("signals: {error}"))?;
    let mut connection = Connection::open(socket, timeout).map_err(|error| error.to_string())?;
    let mut look = |request: DataplaneRequest| match connection.ask(&request.into()) {
        Ok(Answer::Captured(captured)) => Ok(captured),
        Ok(_) => Err("the daemon gave another answer than captured packets".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    let begun = look(DataplaneRequest::CaptureStart {
        port: capture.port.clone(),
        directions: capture.direction.clone(),
        filter: capture.filter.clone(),
        until_closed: true,
    })?;
    let failed = |error: std::io::Error| format!("{}: {error}", capture.write.display());
    let mut out: Box<dyn Write> = if capture.write.as_os_str() == "-" {
        Box::new(std::io::stdout().lock())
    } else {
        Box::new(BufWriter::new(File::create(&capture.write).map_err(failed)?))
    };
    out.write_all(&header(&begun)).map_err(failed)?;
    let end = capture.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let (mut written, mut lost, mut over) = (0, 0, false);
    while !over {
        over = end.is_some_and(|end| Instant::now() >= end) || interrupted.load(Ordering::Relaxed);
        let id = begun.id;
        let captured = look(if over {
            DataplaneRequest::CaptureStop { id }
        } else {
            DataplaneRequest::CaptureRead { id }
        })?;
        lost = captured.lost;
        for packet in &captured.packets {
            if capture.count.is_some_and(|count| written >= count) {
                break;
            }
            out.write_all(&block(packet)).map_err(failed)?;
            written += 1;
        }
        out.flush().map_err(failed)?;
        if !over && capture.count.is_some_and(|count| written >= count) {
            let _ = look(DataplaneRequest::CaptureStop { id });
            break;
        }
        if !over && captured.packets.is_empty() {
            std::thread::sleep(PAUSE);
        }
    }
    Ok(format!("{written} packets written, {lost} lost because they arrived faster than they were read\n"))
}

/// A block: type, length, body in 32-bit words, length again.
fn framed(kind: u32, mut body: Vec<u8>) -> Vec<u8> {
    body.resize(body.len().next_multiple_of(4), 0);
    let length = (body.len() + 12) as u32;
    [&kind.to_le_bytes()[..], &length.to_le_bytes(), &body, &length.to_le_bytes()].concat()
}

fn option(code: u16, value: &[u8]) -> Vec<u8> {
    let mut option = [&code.to_le_bytes()[..], &(value.len() as u16).to_le_bytes(), value].concat();
    option.resize(option.len().next_multiple_of(4), 0);
    option
}

const END: [u8; 4] = [0; 4];

/// Section header and interface descriptions.
fn header(captured: &Captured) -> Vec<u8> {
    let mut section = 0x1a2b_3c4du32.to_le_bytes().to_vec();
    section.extend([1, 0, 0, 0]);
    section.extend([0xff; 8]);
    section.extend(option(4, concat!("fibcast ", env!("CARGO_PKG_VERSION")).as_bytes()));
    section.extend(END);
    let mut bytes = framed(0x0a0d_0d0a, section);
    for port in &captured.ports {
        // Ethernet, any length; name; times in nanoseconds.
        let mut body = vec![1, 0, 0, 0, 0, 0, 0, 0];
        body.extend(option(2, port.as_bytes()));
        body.extend(option(9, &[9]));
        body.extend(END);
        bytes.extend(framed(1, body));
    }
    bytes
}

fn block(packet: &CapturedPacket) -> Vec<u8> {
    let digits: Vec<u8> =
        packet.bytes.chars().filter_map(|digit| digit.to_digit(16)).map(|digit| digit as u8).collect();
    let kept: Vec<u8> =
        digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect();
    let mut body = u32::from(packet.port).to_le_bytes().to_vec();
    body.extend(((packet.time_ns >> 32) as u32).to_le_bytes());
    body.extend((packet.time_ns as u32).to_le_bytes());
    body.extend((kept.len() as u32).to_le_bytes());
    body.extend(packet.length.to_le_bytes());
    body.extend(&kept);
    body.resize(body.len().next_multiple_of(4), 0);
    if let Some(reason) = &packet.reason {
        body.extend(option(1, format!("dropped: {reason}").as_bytes()));
    }
    let direction = match packet.direction {
        Direction::In | Direction::Drop => 1u32,
        Direction::Out => 2,
    };
    body.extend(option(2, &direction.to_le_bytes()));
    body.extend(END);
    framed(6, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_say_their_length_twice_and_fill_whole_words() {
        let packet = CapturedPacket {
            port: 1,
            direction: Direction::Drop,
            reason: Some("no_route".into()),
            time_ns: 0x0102_0304_0506_0708,
            length: 60,
            bytes: "00ff10".into(),
        };
        let captured = Captured { ports: vec!["p0".into(), "p1".into()], ..Captured::default() };
        let bytes = [header(&captured), block(&packet)].concat();
        let (mut rest, mut kinds) = (&bytes[..], Vec::new());
        while !rest.is_empty() {
            let word = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().unwrap());
            let length = word(4) as usize;
            assert_eq!((length % 4, word(length - 4) as usize), (0, length));
            kinds.push(word(0));
            rest = &rest[length..];
        }
        assert_eq!(kinds, [0x0a0d_0d0a, 1, 1, 6]);
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains("dropped: no_route") && text.contains("p1"));
    }
}
