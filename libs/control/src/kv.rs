//! Opaque records as operators see them: keys are text, values any bytes.

use serde::{Deserialize, Serialize};

use crate::integers::number_or_text;

/// Longest key in bytes.
const MAX_KEY: usize = 1_024;
/// Longest value in bytes: with what a route server adds it fits a record of the protocol (16 KiB).
pub const MAX_VALUE: usize = 16_000;
/// Most keys of a table.
pub const MAX_KEYS: u64 = 65_536;

/// A value: text if possible, hexadecimal digits otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KvValue {
    /// UTF-8 without control characters except tab and line feed.
    Text(String),
    /// Two digits for each byte.
    Hex(String),
}

impl KvValue {
    /// The form that fits the bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let plain = |text: &&str| text.chars().all(|c| !c.is_control() || c == '\t' || c == '\n');
        match std::str::from_utf8(bytes).ok().filter(plain) {
            Some(text) => Self::Text(text.to_owned()),
            None => Self::Hex(bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
        }
    }

    /// The bytes of a value.
    ///
    /// # Errors
    /// The text for the operator if the digits are invalid.
    pub fn bytes(&self) -> Result<Vec<u8>, String> {
        let digits = match self {
            Self::Text(text) => return Ok(text.clone().into_bytes()),
            Self::Hex(digits) => digits.as_bytes(),
        };
        let byte = |pair: &[u8]| {
            let text = std::str::from_utf8(pair).ok().filter(|p| p.len() == 2 && !p.starts_with('+'))?;
            u8::from_str_radix(text, 16).ok()
        };
        let bytes: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
        bytes.ok_or_else(|| "value: expected an even number of hexadecimal digits".to_owned())
    }
}

/// A record, or its deletion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvEntry {
    /// Its key; bytes that are not UTF-8 are shown as U+FFFD.
    pub key: String,
    /// Its value; none: it was deleted.
    pub value: Option<KvValue>,
}

/// Records as of a commit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvList {
    /// Epoch of the table.
    #[serde(deserialize_with = "number_or_text")]
    pub epoch: u64,
    /// Serial of its last commit.
    pub serial: u64,
    /// This is a full list, not a list of changes: forget all other records.
    pub whole: bool,
    /// The records, in key order.
    pub entries: Vec<KvEntry>,
}

/// Checks a key.
///
/// # Errors
/// The text for the operator if the key is empty, too long, or has control characters.
pub fn check_key(key: &str) -> Result<(), String> {
    if key.is_empty() || key.len() > MAX_KEY || key.chars().any(char::is_control) {
        return Err(format!(
            "key: expected 1 to {MAX_KEY} bytes of text without control characters, found {} bytes",
            key.len()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_come_back_as_they_were() {
        for bytes in [&b"plain text"[..], b"", b"\x00\xff\x10", "é\n\t".as_bytes(), b"\x1b[31m"] {
            assert_eq!(KvValue::of(bytes).bytes().unwrap(), bytes);
        }
        assert_eq!(KvValue::of(b"\x00\xff"), KvValue::Hex("00ff".into()));
        for wrong in ["0", "0g", "+1", "é"] {
            assert!(KvValue::Hex(wrong.into()).bytes().is_err(), "{wrong}");
        }
    }

    #[test]
    fn keys_out_of_range_name_the_limit() {
        assert!(check_key(&"k".repeat(1025)).unwrap_err().contains("1 to 1024 bytes"));
        assert!(check_key("").is_err() && check_key("a\nb").is_err());
        check_key("site/pop-1/motd").unwrap();
    }
}
