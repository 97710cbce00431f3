//! The `fpm` source: FRR's zebra connects and sends its table (module `dplane_fpm_nl`; FRR 8.4 and later).
//!
//! zebra connects to us. [`frame`] splits its stream into frames, [`Receiver`] applies their messages to a
//! [`Mirror`](super::mirror::Mirror); this file is the thread with the sockets. It reads whenever data is available, even while the RIB is
//! busy: a zebra whose buffer stays full for 15 s resets the session. A frame is applied as a whole before changes are passed on, because
//! FRR 8.4 replaces a route by a withdrawal and an announcement in one frame.
//!
//! Bad input: a frame with another version, type or length, or a message that exceeds its frame, ends the session, with source and byte
//! offset in the log; zebra reconnects after 3 s and sends everything again. A message with invalid attributes is skipped, counted as
//! `messages_malformed` and logged. A route that cannot be used (see [`Skip`](super::mirror::Skip)) is skipped and counted by reason; an
//! earlier route to its prefix is withdrawn.

pub mod frame;
#[cfg(test)]
mod later_frr;
mod receiver;
mod sentinel;
#[cfg(test)]
mod tests;

use std::io::{ErrorKind, Read};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

pub use receiver::{FpmError, Receiver, Rules};
pub use sentinel::Sentinel;

use super::feed::Feed;
use super::outlet::{BATCH, End, Outlet};

/// Read buffer: several of the longest frames.
const BUFFER: usize = 8 * frame::LONGEST;
/// Bytes read before changes are passed to the RIB.
const PORTION: usize = 2 << 20;
/// Longest wait before the thread checks whether it should stop.
const NAP: Duration = Duration::from_millis(100);
/// Wait while the RIB is busy.
const BUSY: Duration = Duration::from_millis(2);

/// Options of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FpmOptions {
    /// Name of the protocol instance, for the log.
    pub origin: String,
    /// Listen address for zebra.
    pub listen: SocketAddr,
    /// Addresses that may connect besides this host.
    pub allow: Vec<IpAddr>,
    /// Rules for its routes.
    pub rules: Rules,
}

pub(super) fn run(options: &FpmOptions, outlet: &Outlet) -> Result<(), End> {
    let failed =
        |what: &str, error: std::io::Error| End::Failed(format!("{what} {}: {error}", options.listen));
    let listener = TcpListener::bind(options.listen).map_err(|e| failed("cannot listen on", e))?;
    listener.set_nonblocking(true).map_err(|e| failed("cannot listen on", e))?;
    tracing::info!("source {:?}: waiting for zebra on {}", options.origin, options.listen);
    FpmServer {
        options,
        listener,
        session: None,
        receiver: Receiver::new(&options.origin, options.rules.clone()),
        feed: Feed::new(outlet),
        last_error: None,
        refused: 0,
    }
    .serve()
}

struct Session {
    stream: TcpStream,
    peer: SocketAddr,
    buffer: Vec<u8>,
    filled: usize,
}

struct FpmServer<'a> {
    options: &'a FpmOptions,
    listener: TcpListener,
    session: Option<Session>,
    receiver: Receiver,
    feed: Feed<'a>,
    last_error: Option<String>,
    refused: u64,
}

impl FpmServer<'_> {
    fn serve(mut self) -> Result<(), End> {
        loop {
            self.accept();
            // More may wait in the socket; the table has not ended then.
            let drained = self.read();
            let now = Instant::now();
            if drained && self.receiver.turn(now) {
                self.feed.end_of_table();
            }
            let receiver = &mut self.receiver;
            self.feed.pump(|| receiver.changes(now, BATCH))?;
            let (refused, receiver) = (self.refused, &self.receiver);
            self.feed.report(now, receiver.state(), &self.last_error, || {
                let mut counters = receiver.counters();
                counters.push(("connections_refused", refused));
                counters
            })?;
            self.wait()?;
        }
    }

    fn wait(&self) -> Result<(), End> {
        let nap = if self.feed.is_busy() { BUSY } else { NAP };
        let nap = Timespec { tv_sec: 0, tv_nsec: nap.subsec_nanos().into() };
        let mut fds = vec![PollFd::new(&self.listener, PollFlags::IN)];
        if let Some(session) = &self.session {
            fds.push(PollFd::new(&session.stream, PollFlags::IN));
        }
        match poll(&mut fds, Some(&nap)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(End::Failed(format!("poll: {error}"))),
        }
    }

    fn accept(&mut self) {
        while let Ok((stream, peer)) = self.listener.accept() {
            let from = peer.ip().to_canonical();
            if !from.is_loopback() && !self.options.allow.contains(&from) {
                self.refused += 1;
                self.problem(format!("{peer}: connection refused; see `allow`"));
                continue;
            }
            if let Err(error) = stream.set_nonblocking(true) {
                self.problem(format!("{peer}: {error}"));
                continue;
            }
            // A zebra whose host died never closes its connection.
            let _ = rustix::net::sockopt::set_socket_keepalive(&stream, true);
            let _ = rustix::net::sockopt::set_tcp_keepidle(&stream, Duration::from_secs(10));
            let _ = rustix::net::sockopt::set_tcp_keepintvl(&stream, Duration::from_secs(5));
            if let Some(old) = self.session.take() {
                // zebra was restarted before its end was detected here.
                self.problem(format!("{}: replaced by the connection of {peer}", old.peer));
                self.receiver.disconnected(Instant::now());
            }
            tracing::info!("source {:?}: zebra connected from {peer}", self.options.origin);
            self.receiver.connected(Instant::now(), peer.port());
            self.session = Some(Session { stream, peer, buffer: vec![0; BUFFER], filled: 0 });
        }
    }

    /// Reads available data, up to a portion. True: nothing more is available.
    fn read(&mut self) -> bool {
        let mut read = 0;
        while read < PORTION {
            let Some(session) = &mut self.session else { return true };
            let room = session.buffer.get_mut(session.filled..).unwrap_or_default();
            match session.stream.read(room) {
                Ok(0) => {
                    let cut = session.filled;
                    let reason = match cut {
                        0 => "connection closed".to_owned(),
                        _ => format!("connection closed within a frame after {cut} bytes"),
                    };
                    self.close(&reason);
                    return true;
                }
                Ok(n) => {
                    read += n;
                    session.filled += n;
                    let bytes = session.buffer.get(..session.filled).unwrap_or_default();
                    match self.receiver.take(bytes) {
                        Ok(taken) => {
                            session.buffer.copy_within(taken..session.filled, 0);
                            session.filled -= taken;
                        }
                        Err(error) => {
                            self.close(&error.to_string());
                            return true;
                        }
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.close(&error.to_string());
                    return true;
                }
            }
        }
        false
    }

    fn close(&mut self, reason: &str) {
        if let Some(session) = self.session.take() {
            self.receiver.disconnected(Instant::now());
            self.problem(format!("{}: {reason}", session.peer));
        }
    }

    fn problem(&mut self, reason: String) {
        tracing::warn!("source {:?}: {reason}", self.options.origin);
        self.last_error = Some(reason);
    }
}
