//! The lowest layer of the codec: varints and bounded fields in byte slices, and decoding errors.
//!
//! Nothing allocates memory before a length was checked against its limit *and* the available bytes.

/// Longest body of a frame in bytes.
pub const MAX_BODY: usize = 64 * 1024;
/// Bytes of a frame header: type, and length in three bytes, network order.
pub const HEADER: usize = 4;
/// Longest name of a node, table or port in bytes.
pub const MAX_NAME: usize = 64;
/// Most names in a path.
pub const MAX_PATH: usize = 16;
/// Most next hops of a group.
pub const MAX_HOPS: usize = 256;
/// Longest opaque key and longest opaque value in bytes.
pub const MAX_OPAQUE: usize = 16 * 1024;
/// Longest error text in bytes.
pub const MAX_TEXT: usize = 512;

/// Why bytes are not a valid frame, or a frame is not allowed. Names the frame and the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The peer does not speak this protocol.
    #[error("does not speak fibcast: expected a Hello frame with the word FIBC, found bytes {found}")]
    NotFibcast {
        /// Its first bytes in hexadecimal digits.
        found: String,
    },
    /// The peer has another protocol version.
    #[error("speaks another version of the protocol: expected {expected}, found {found}")]
    Version {
        /// Ours.
        expected: u64,
        /// Theirs.
        found: u64,
    },
    /// A length or count exceeds its limit.
    #[error("{frame}: field {field}: expected at most {limit}, found {found}")]
    TooLarge {
        /// Name of the frame.
        frame: &'static str,
        /// Name of the field.
        field: &'static str,
        /// The limit.
        limit: u64,
        /// The value found.
        found: u64,
    },
    /// The frame ends inside a field.
    #[error("{frame}: field {field}: expected more bytes, found the end of the frame")]
    Truncated {
        /// Name of the frame.
        frame: &'static str,
        /// Name of the field.
        field: &'static str,
    },
    /// A field has an invalid value.
    #[error("{frame}: field {field}: {reason}")]
    Invalid {
        /// Name of the frame.
        frame: &'static str,
        /// Name of the field.
        field: &'static str,
        /// What was expected and found.
        reason: String,
    },
    /// A frame of an unknown mandatory type.
    #[error("expected a known frame type (1 to 14) or an optional one (from 128), found {0}")]
    UnknownFrame(u8),
    /// A frame that is not allowed in this state.
    #[error("{frame}: not expected in state {state}")]
    Unexpected {
        /// Name of the frame.
        frame: &'static str,
        /// State of the session.
        state: &'static str,
    },
    /// The peer ended the session with this reason.
    #[error("peer ended the session: {0}")]
    Peer(String),
    /// This node ends the session for a reason beyond the codec.
    #[error("{0}")]
    Refused(String),
    /// The peer has no permission for what it asks.
    #[error("refused: {0}")]
    NotAllowed(String),
    /// The peer has used up a limit; the text names it.
    #[error("{0}")]
    Budget(String),
    /// Nothing was received for too long.
    #[error("silent for {0} ms")]
    Silent(u64),
}

/// Reads the fields of one frame.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    frame: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(frame: &'static str, body: &'a [u8]) -> Self {
        Self { frame, rest: body }
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub fn truncated(&self, field: &'static str) -> ProtocolError {
        ProtocolError::Truncated { frame: self.frame, field }
    }

    pub fn invalid(&self, field: &'static str, reason: impl Into<String>) -> ProtocolError {
        ProtocolError::Invalid { frame: self.frame, field, reason: reason.into() }
    }

    pub fn u8(&mut self, field: &'static str) -> Result<u8, ProtocolError> {
        let (&first, rest) = self.rest.split_first().ok_or_else(|| self.truncated(field))?;
        self.rest = rest;
        Ok(first)
    }

    pub fn bytes(&mut self, n: usize, field: &'static str) -> Result<&'a [u8], ProtocolError> {
        let (taken, rest) = self.rest.split_at_checked(n).ok_or_else(|| self.truncated(field))?;
        self.rest = rest;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], ProtocolError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or_else(|| self.truncated(field))?;
        self.rest = rest;
        Ok(*taken)
    }

    pub fn u64(&mut self, field: &'static str) -> Result<u64, ProtocolError> {
        Ok(u64::from_be_bytes(self.array(field)?))
    }

    pub fn u128(&mut self, field: &'static str) -> Result<u128, ProtocolError> {
        Ok(u128::from_be_bytes(self.array(field)?))
    }

    /// A varint of up to 130 bits of payload: little-endian groups of 7 bits.
    pub fn wide(&mut self, field: &'static str) -> Result<u128, ProtocolError> {
        let mut value = 0u128;
        let mut shift = 0;
        loop {
            let byte = self.u8(field)?;
            let part = u128::from(byte & 0x7f);
            if shift > 126 || (shift == 126 && part > 3) {
                return Err(self.invalid(field, "expected a varint of at most 128 bits"));
            }
            value |= part << shift;
            if byte < 0x80 {
                return Ok(value);
            }
            shift += 7;
        }
    }

    pub fn varint(&mut self, field: &'static str) -> Result<u64, ProtocolError> {
        // One byte is by far the most frequent case.
        if let Some((&first, rest)) = self.rest.split_first()
            && first < 0x80
        {
            self.rest = rest;
            return Ok(u64::from(first));
        }
        let value = self.wide(field)?;
        u64::try_from(value).map_err(|_| self.invalid(field, "expected a varint of at most 64 bits"))
    }

    pub fn limited(&mut self, field: &'static str, limit: u64) -> Result<u64, ProtocolError> {
        let found = self.varint(field)?;
        if found > limit {
            return Err(ProtocolError::TooLarge { frame: self.frame, field, limit, found });
        }
        Ok(found)
    }

    pub fn blob(&mut self, field: &'static str, limit: usize) -> Result<&'a [u8], ProtocolError> {
        let n = self.limited(field, limit as u64)?;
        self.bytes(n as usize, field)
    }

    pub fn text(&mut self, field: &'static str, limit: usize) -> Result<String, ProtocolError> {
        let bytes = self.blob(field, limit)?;
        match std::str::from_utf8(bytes) {
            Ok(text) if !text.chars().any(char::is_control) => Ok(text.to_owned()),
            _ => Err(self.invalid(field, "expected printable UTF-8")),
        }
    }

    pub fn names(&mut self, field: &'static str) -> Result<Vec<String>, ProtocolError> {
        let n = self.limited(field, MAX_PATH as u64)?;
        (0..n).map(|_| self.text(field, MAX_NAME)).collect()
    }
}

/// Writes a varint.
pub(crate) fn put_varint(out: &mut Vec<u8>, value: u64) {
    put_wide(out, u128::from(value));
}

pub(crate) fn put_wide(out: &mut Vec<u8>, mut value: u128) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn put_blob(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Text, truncated to its limit at a character boundary.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &str, limit: usize) {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    put_blob(out, text.get(..end).unwrap_or_default().as_bytes());
}

pub(crate) fn put_names(out: &mut Vec<u8>, names: &[String]) {
    let names = names.get(..names.len().min(MAX_PATH)).unwrap_or_default();
    put_varint(out, names.len() as u64);
    names.iter().for_each(|n| put_text(out, n, MAX_NAME));
}

pub(crate) fn zigzag(v: i64) -> u64 {
    (v << 1 ^ v >> 63) as u64
}

pub(crate) fn unzigzag(v: u64) -> i64 {
    (v >> 1) as i64 ^ -((v & 1) as i64)
}
