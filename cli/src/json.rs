//! JSON for other programs: one line for each answer, in the order of the documented fields.
//!
//! Many readers hold numbers as IEEE 754 doubles, which have 53 bits (RFC 8259 §6, RFC 7493 §2.2). So an integer that needs more is a string of
//! decimal digits, and so is every epoch, which nearly always does. `docs/json.md` has the fields.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter, Serializer};

/// The largest integer that a double and all smaller ones have exactly.
const MOST: u64 = (1 << 53) - 1;
/// Random numbers of 64 bits: always strings, so that the type does not change with the value.
const EPOCH: &str = "epoch";

/// A line of JSON.
pub fn line(value: &(impl Serialize + ?Sized)) -> Result<String, String> {
    let mut bytes = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut bytes, Interoperable::default());
    value.serialize(&mut serializer).map_err(|error| error.to_string())?;
    bytes.push(b'\n');
    String::from_utf8(bytes).map_err(|error| error.to_string())
}

/// Compact JSON with large integers as strings.
#[derive(Default)]
struct Interoperable {
    in_key: bool,
    key: String,
}

impl Formatter for Interoperable {
    fn write_u64<W: ?Sized + Write>(&mut self, writer: &mut W, value: u64) -> io::Result<()> {
        if value > MOST || self.key == EPOCH {
            write!(writer, "\"{value}\"")
        } else {
            write!(writer, "{value}")
        }
    }

    fn write_i64<W: ?Sized + Write>(&mut self, writer: &mut W, value: i64) -> io::Result<()> {
        if value.unsigned_abs() > MOST { write!(writer, "\"{value}\"") } else { write!(writer, "{value}") }
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        (self.in_key, self.key) = (true, String::new());
        if first { Ok(()) } else { writer.write_all(b",") }
    }

    fn end_object_key<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.in_key = false;
        Ok(())
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        if self.in_key {
            self.key.push_str(fragment);
        }
        writer.write_all(fragment.as_bytes())
    }

    fn write_char_escape<W: ?Sized + Write>(&mut self, writer: &mut W, escape: CharEscape) -> io::Result<()> {
        serde_json::ser::CompactFormatter.write_char_escape(writer, escape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn integers_that_a_double_does_not_have_are_strings() {
        let of = |value: u64| line(&value).unwrap();
        assert_eq!((of(0), of(9_007_199_254_740_991)), ("0\n".into(), "9007199254740991\n".into()));
        assert_eq!(of(9_007_199_254_740_992), "\"9007199254740992\"\n");
        assert_eq!(of(u64::MAX), "\"18446744073709551615\"\n");
        assert_eq!(line(&[-1, i64::MIN]).unwrap(), "[-1,\"-9223372036854775808\"]\n");
        assert_eq!(line(&[0.5, 1.25]).unwrap(), "[0.5,1.25]\n");
    }

    #[test]
    fn an_epoch_is_always_a_string_and_texts_are_escaped_as_ever() {
        let map = BTreeMap::from([("epoch", 7u64), ("epoch_ms", 7), ("serial", 7)]);
        assert_eq!(line(&map).unwrap(), "{\"epoch\":\"7\",\"epoch_ms\":7,\"serial\":7}\n");
        let text = "a\"\\\n\u{1}é";
        assert_eq!(line(&text).unwrap().trim_end(), serde_json::to_string(text).unwrap());
    }
}
