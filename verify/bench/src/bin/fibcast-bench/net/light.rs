//! A client without a table: it speaks the protocol over real TCP, and keeps of what it gets a checksum, the announced digest and, if
//! asked to, the records themselves. A thousand of them fit into one process.

use std::io::{Read, Write};
use std::net::SocketAddr;

use fibcast_sync_proto::Table;
use fibcast_sync_proto::frame::{Frame, Inbox, MAX_WANT, Role};
use fibcast_sync_proto::sketch::{RootDigest, SYMBOLS, SketchDecoder};
use mio::net::TcpStream;

/// Longest time between heartbeats that may be asked for; a bench is over before one is due.
const HEARTBEAT_MS: u64 = 60_000;
/// Type of the Records frame.
const RECORDS: u8 = 7;

/// What a client does once it is registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Stands by.
    Nothing,
    /// Wants a copy.
    Copy,
    /// Has a table, and wants the difference.
    Compare,
}

/// One client.
#[derive(Debug)]
pub struct Light {
    pub stream: TcpStream,
    then: Then,
    head: Vec<u8>,
    /// Bytes of a Records body that are still to come.
    records: usize,
    /// A frame of another type that is not whole yet.
    inbox: Inbox,
    out: Vec<u8>,
    sum: flate2::Crc,
    kept: Option<Vec<Vec<u8>>>,
    decoder: SketchDecoder,
    wanted: u64,
    pub registered: bool,
    pub received: u64,
    /// Digest and record count of the commit that made it equal.
    pub digest: Option<RootDigest>,
    /// Records in which the tables differed, both ways.
    pub differed: usize,
}

impl Light {
    pub fn connect(address: SocketAddr, name: String, then: Then, keep: bool) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        let mut out = Vec::new();
        Frame::Hello { name }.encode(&mut out);
        let role = if then == Then::Nothing { Role::Secondary } else { Role::Primary };
        let register = Frame::Register {
            table: "fib".into(),
            role,
            heartbeat_ms: HEARTBEAT_MS,
            digest_key: fibcast_sync_proto::DigestKey::PUBLIC.id(),
            path: Vec::new(),
            subset: fibcast_sync_proto::Subset::default(),
        };
        register.encode(&mut out);
        Ok(Self {
            stream,
            then,
            head: Vec::new(),
            records: 0,
            inbox: Inbox::default(),
            out,
            sum: flate2::Crc::new(),
            kept: keep.then(Vec::new),
            decoder: SketchDecoder::new(),
            wanted: 0,
            registered: false,
            received: 0,
            digest: None,
            differed: 0,
        })
    }

    /// Sum over all record bytes.
    pub fn sum(&self) -> u32 {
        self.sum.sum()
    }

    /// The bodies of Records frames, of a client that keeps them.
    pub fn kept(&self) -> Option<&[Vec<u8>]> {
        self.kept.as_deref()
    }

    /// Reads and writes what there is. `table` is what the client would have.
    pub fn turn(&mut self, buffer: &mut [u8], table: &Table) -> Result<(), String> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Err("the server hung up".into()),
                Ok(n) => {
                    self.received += n as u64;
                    let bytes = buffer.get(..n).unwrap_or_default().to_vec();
                    self.take(&bytes, table)?;
                }
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == std::io::ErrorKind::NotConnected => break,
                Err(e) => return Err(e.to_string()),
            }
        }
        while !self.out.is_empty() {
            match self.stream.write(&self.out) {
                Ok(n) => drop(self.out.drain(..n)),
                Err(e)
                    if matches!(
                        e.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::NotConnected
                    ) =>
                {
                    break;
                }
                Err(e) => return Err(e.to_string()),
            }
        }
        Ok(())
    }

    fn take(&mut self, mut bytes: &[u8], table: &Table) -> Result<(), String> {
        while !bytes.is_empty() {
            if self.records > 0 {
                let (part, rest) = bytes.split_at(self.records.min(bytes.len()));
                self.sum.update(part);
                if let Some(body) = self.kept.as_mut().and_then(|k| k.last_mut()) {
                    body.extend_from_slice(part);
                }
                self.records -= part.len();
                bytes = rest;
                continue;
            }
            // The begin of a frame: its header, byte by byte where it comes so.
            let (first, rest) = bytes.split_at(1);
            self.head.extend_from_slice(first);
            bytes = rest;
            if let [kind, a, b, c] = self.head[..] {
                let length = u32::from_be_bytes([0, a, b, c]) as usize;
                if kind == RECORDS {
                    self.head.clear();
                    self.records = length;
                    if let Some(kept) = &mut self.kept {
                        kept.push(Vec::with_capacity(length));
                    }
                    continue;
                }
            }
            if let Some(&[_, a, b, c]) = self.head.first_chunk::<4>() {
                let whole = 4 + u32::from_be_bytes([0, a, b, c]) as usize;
                let missing = whole - self.head.len();
                let (part, rest) = bytes.split_at(missing.min(bytes.len()));
                self.head.extend_from_slice(part);
                bytes = rest;
                if self.head.len() == whole {
                    let frame = std::mem::take(&mut self.head);
                    self.inbox.push(&frame);
                    let mut inbox = std::mem::take(&mut self.inbox);
                    while let Some(frame) = inbox.next().map_err(|e| e.to_string())? {
                        self.frame(frame, table)?;
                    }
                    self.inbox = inbox;
                }
            }
        }
        Ok(())
    }

    fn frame(&mut self, frame: Frame<'_>, table: &Table) -> Result<(), String> {
        match frame {
            Frame::Welcome(_) => {
                self.registered = true;
                let digest = if self.then == Then::Compare { table.digest() } else { RootDigest::default() };
                if self.then != Then::Nothing {
                    Frame::Activate { epoch: 0, serial: 0, digest, copy: false }.encode(&mut self.out);
                }
            }
            Frame::Commit { digest, .. } => self.digest = Some(digest),
            Frame::Symbols { first, symbols, .. } => {
                if first != self.decoder.len() as u64 {
                    return Err(format!("symbols from {first}, expected {}", self.decoder.len()));
                }
                for (theirs, ours) in symbols.iter().zip(table.sketch().symbols_from(self.decoder.len())) {
                    self.decoder.push(*theirs, ours);
                }
                self.decoder.peel();
                let len = self.decoder.len();
                if !self.decoder.is_done() {
                    // As the production client asks. Several frames may answer one question.
                    if len as u64 >= self.wanted {
                        let next = if len < 1024 { len * 3 / 2 } else { len * 5 / 4 };
                        self.wanted = if len >= SYMBOLS { SYMBOLS + 1 } else { next.min(SYMBOLS) } as u64;
                        Frame::More { until: self.wanted }.encode(&mut self.out);
                    }
                    return Ok(());
                }
                let found = self.decoder.difference();
                self.differed = found.ours.len() + found.theirs.len();
                let mut parts = found.theirs.chunks(MAX_WANT).peekable();
                while let Some(part) = parts.next() {
                    Frame::Want { last: parts.peek().is_none(), ids: part.to_vec() }.encode(&mut self.out);
                }
            }
            Frame::Error { text } => return Err(text),
            _ => {}
        }
        Ok(())
    }
}
