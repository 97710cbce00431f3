//! Integers that JSON may have as strings, because not all readers hold 64 bits: `fibcast --json` writes every epoch so, the control protocol as
//! numbers. Types of this crate read both.

use std::fmt;

use serde::Deserializer;
use serde::de::{Error, Visitor};

/// Reads a number, or a string of decimal digits.
pub(crate) fn number_or_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    struct Either;
    impl Visitor<'_> for Either {
        type Value = u64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an integer of 64 bits, as a number or a string of decimal digits")
        }

        fn visit_u64<E: Error>(self, value: u64) -> Result<u64, E> {
            Ok(value)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
            text.parse().map_err(|_| E::invalid_value(serde::de::Unexpected::Str(text), &self))
        }
    }
    deserializer.deserialize_any(Either)
}

#[cfg(test)]
mod tests {
    use crate::kv::KvList;

    #[test]
    fn an_epoch_is_read_as_number_and_as_text() {
        let of = |epoch: &str| {
            let text = format!(r#"{{"epoch":{epoch},"serial":1,"whole":true,"entries":[]}}"#);
            serde_json::from_str::<KvList>(&text).map(|list| list.epoch)
        };
        assert_eq!(of("7").unwrap(), 7);
        assert_eq!(of(r#""18446744073709551615""#).unwrap(), u64::MAX);
        for wrong in ["-1", r#""x""#, r#""18446744073709551616""#, "0.5", "null"] {
            assert!(of(wrong).unwrap_err().to_string().contains("an integer of 64 bits"), "{wrong}");
        }
    }
}
