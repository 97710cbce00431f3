//! Splits a byte stream into frames.

use super::{Frame, MAGIC, is_read, name_of, not_fibcast};
use crate::wire::{HEADER, MAX_BODY, ProtocolError};

/// Splits a byte stream, received in arbitrary portions, into frames.
#[derive(Debug)]
pub struct Inbox {
    buffer: Vec<u8>,
    at: usize,
    greeted: bool,
    /// Longest body that is accepted.
    limit: usize,
    /// Bytes of all complete frames.
    consumed: u64,
}

impl Default for Inbox {
    fn default() -> Self {
        Self { buffer: Vec::new(), at: 0, greeted: false, limit: MAX_BODY, consumed: 0 }
    }
}

impl Inbox {
    /// Accepts bodies of frames of up to so many bytes; [`MAX_BODY`] by default.
    pub(crate) fn limit(&mut self, bytes: usize) {
        self.limit = bytes.min(MAX_BODY);
    }

    /// Bytes of all frames that [`Inbox::next`] has returned or skipped.
    pub(crate) fn consumed(&self) -> u64 {
        self.consumed
    }

    /// Bytes that are held.
    pub(crate) fn held(&self) -> usize {
        self.buffer.capacity()
    }

    /// Returns memory that is not needed. Call [`Inbox::next`] until it returns none before.
    pub(crate) fn shrink(&mut self) {
        self.buffer.drain(..self.at.min(self.buffer.len()));
        self.at = 0;
        self.buffer.shrink_to_fit();
    }

    /// Appends received bytes. Call [`Inbox::next`] until it returns none before adding more.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.at == self.buffer.len() {
            self.buffer.clear();
            self.at = 0;
        } else if self.at > MAX_BODY {
            self.buffer.drain(..self.at);
            self.at = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Types of the complete frames that [`Inbox::next`] would return; none before the first frame.
    fn kinds(&self) -> impl Iterator<Item = u8> + '_ {
        let mut rest = self.buffer.get(self.at..).filter(|_| self.greeted).unwrap_or_default();
        std::iter::from_fn(move || {
            loop {
                let &[kind, a, b, c] = rest.first_chunk::<HEADER>()?;
                let n = u32::from_be_bytes([0, a, b, c]) as usize;
                rest = rest.get(HEADER + n..).filter(|_| n <= MAX_BODY)?;
                if is_read(kind) {
                    return Some(kind);
                }
            }
        })
    }

    /// Type of the frame that [`Inbox::next`] would return; none if there is none, or an error.
    pub(crate) fn peek(&self) -> Option<u8> {
        self.kinds().next()
    }

    /// Type of the frame after that.
    pub(crate) fn peek_second(&self) -> Option<u8> {
        self.kinds().nth(1)
    }

    /// The next complete frame. After an error the session must end.
    ///
    /// # Errors
    /// [`ProtocolError`] if the peer does not speak this protocol or version, or a frame cannot be decoded.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Frame<'_>>, ProtocolError> {
        loop {
            let rest = self.buffer.get(self.at..).unwrap_or_default();
            // A peer with another protocol is detected at once, not when a "frame" is complete.
            if !self.greeted {
                let wrong = |i: usize, want: u8| rest.get(i).is_some_and(|&b| b != want);
                if wrong(0, 1) || wrong(1, 0) || (0..4).any(|i| wrong(HEADER + i, MAGIC[i])) {
                    return Err(not_fibcast(rest));
                }
            }
            let Some(&[kind, a, b, c]) = rest.first_chunk::<HEADER>() else { return Ok(None) };
            let n = u32::from_be_bytes([0, a, b, c]) as usize;
            if n > self.limit {
                return Err(ProtocolError::TooLarge {
                    frame: name_of(kind),
                    field: "length",
                    limit: self.limit as u64,
                    found: n as u64,
                });
            }
            if rest.len() < HEADER + n {
                return Ok(None);
            }
            let body_at = self.at + HEADER;
            self.at = body_at + n;
            self.consumed += (HEADER + n) as u64;
            self.greeted = true;
            if is_read(kind) {
                let body = self.buffer.get(body_at..body_at + n).unwrap_or_default();
                return Frame::decode(kind, body).map(Some);
            }
        }
    }
}
