//! A buffer of consecutive netlink messages, each padded to four bytes.

use super::bytes::{Malformed, u16_at, u32_at};

const HEADER: usize = 16;

/// A message: header and body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// Offset in the buffer.
    pub at: usize,
    /// `nlmsg_type`.
    pub kind: u16,
    /// `nlmsg_flags`.
    pub flags: u16,
    /// `nlmsg_seq`.
    pub sequence: u32,
    /// Bytes after the header.
    pub body: &'a [u8],
}

impl Message<'_> {
    /// Offset of the body in the buffer.
    pub fn body_at(&self) -> usize {
        self.at + HEADER
    }
}

/// Iterates over the messages of a buffer; ends after an error.
#[derive(Debug, Clone)]
pub struct Messages<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Messages<'a> {
    /// The messages of a buffer.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn end(&mut self, reason: &'static str) -> Option<Result<Message<'a>, Malformed>> {
        let at = std::mem::replace(&mut self.at, self.bytes.len());
        Some(Err(Malformed { at, reason }))
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.at;
        let rest = self.bytes.get(at..).filter(|rest| !rest.is_empty())?;
        let header = (u32_at(rest, 0), u16_at(rest, 4), u16_at(rest, 6), u32_at(rest, 8));
        let (Some(length), Some(kind), Some(flags), Some(sequence)) = header else {
            return self.end("expected a netlink header of 16 bytes, found the end");
        };
        let length = length as usize;
        if length < HEADER {
            return self.end("a netlink message is shorter than its header");
        }
        let Some(body) = rest.get(HEADER..length) else {
            return self.end("a netlink message is longer than what holds it");
        };
        // The last message need not be padded.
        self.at = (at + length.next_multiple_of(4)).min(self.bytes.len());
        Some(Ok(Message { at, kind, flags, sequence, body }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::message;

    #[test]
    fn messages_follow_each_other_with_padding() {
        let mut bytes = message(24, 0, &[1, 2, 3, 4, 5]);
        bytes.extend(message(25, 7, &[]));
        let found: Vec<_> =
            Messages::new(&bytes).map(|m| m.map(|m| (m.at, m.kind, m.flags, m.body.len()))).collect();
        assert_eq!(found, [Ok((0, 24, 0, 5)), Ok((24, 25, 7, 0))]);
    }

    #[test]
    fn a_length_that_lies_ends_it_with_the_byte_where() {
        let good = message(24, 0, &[0; 4]);
        for (length, reason) in [(15u32, "shorter than its header"), (21, "longer than what holds it")] {
            let mut bytes = good.clone();
            let at = bytes.len();
            bytes.extend(message(24, 0, &[0; 4]));
            bytes[at..at + 4].copy_from_slice(&length.to_ne_bytes());
            let found: Vec<_> = Messages::new(&bytes).collect();
            assert_eq!(found.len(), 2);
            let error = found[1].unwrap_err();
            assert!(error.at == 20 && error.reason.contains(reason), "{error}");
        }
        assert_eq!(Messages::new(&good[..7]).next().unwrap().unwrap_err().at, 0);
    }
}
