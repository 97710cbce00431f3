//! The way of answers back to zebra, without waiting for it.

use std::io::Write;
use std::net::TcpStream;

use super::receiver::Receiver;
use super::takeover::Id;

/// Bytes of answers that are made at once.
const PORTION: usize = 64 * 1024;

/// Frames on their way to zebra. What a lost session leaves is dropped: zebra sends its routes again, and they are answered again.
#[derive(Debug, Default)]
pub struct Answers {
    bytes: Vec<u8>,
    at: usize,
    session: Option<Id>,
}

impl Answers {
    /// Writes what zebra takes now, and no more.
    pub fn write(&mut self, session: Option<Id>, stream: Option<&mut TcpStream>, receiver: &mut Receiver) {
        if self.session != session {
            *self = Self { session, ..Self::default() };
        }
        let Some(stream) = stream else { return };
        loop {
            if self.at == self.bytes.len() {
                self.bytes.clear();
                self.at = 0;
                receiver.answers(&mut self.bytes, PORTION);
                if self.bytes.is_empty() {
                    return;
                }
            }
            match stream.write(self.bytes.get(self.at..).unwrap_or_default()) {
                Ok(n) if n > 0 => self.at += n,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                // Full; or broken, which reading notices as well.
                _ => return,
            }
        }
    }

    /// Whether it has bytes for a connection.
    pub fn waits_for(&self, id: Id) -> bool {
        self.session == Some(id) && self.at < self.bytes.len()
    }
}
