//! `fibcast kv`: opaque records, replicated like routes.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use clap::Subcommand;
use fibcast_control::kv::{KvEntry, KvList, KvValue, MAX_VALUE};
use fibcast_control::{Answer, KvRequest, ask};

use crate::json;
use crate::output::{say, say_bytes};

/// Command for opaque records.
#[derive(Debug, Subcommand)]
pub enum Kv {
    /// Writes a record (route server).
    Put {
        /// 1 to 1024 bytes of text.
        key: String,
        /// Up to 16000 bytes; - reads from standard input.
        value: String,
    },
    /// Prints a record's value, byte for byte.
    Get {
        /// Its key.
        key: String,
    },
    /// Deletes a record (route server).
    Del {
        /// Its key.
        key: String,
    },
    /// Lists records.
    List {
        /// Prefix of their keys.
        #[arg(default_value = "")]
        prefix: String,
        /// Most records to list.
        #[arg(long, default_value_t = 1000)]
        limit: usize,
    },
    /// Prints all records, then each change until interrupted.
    Watch {
        /// Prefix of their keys.
        #[arg(default_value = "")]
        prefix: String,
    },
}

/// `KEY VALUE`, or only `KEY` for a deleted record; values with several lines are indented.
pub fn line(entry: &KvEntry) -> String {
    match &entry.value {
        Some(KvValue::Text(text)) => format!("{} {}\n", entry.key, text.trim_end().replace('\n', "\n    ")),
        Some(KvValue::Hex(digits)) => format!("{} 0x{digits}\n", entry.key),
        None => format!("{} -\n", entry.key),
    }
}

/// Executes the command.
pub fn run(command: &Kv, socket: &Path, timeout: Duration, as_json: bool) -> Result<(), String> {
    let list = |request: KvRequest| match ask(socket, &request.into(), timeout).map_err(|e| e.to_string())? {
        Answer::Kv(list) => Ok(list),
        _ => Err("the daemon gave another answer than records".to_owned()),
    };
    let show = |found: &KvList| {
        if as_json {
            return say(&json::line(found)?);
        }
        say(&found.entries.iter().map(line).collect::<String>())
    };
    match command {
        Kv::Put { key, value } => {
            let value = if value == "-" { read_value()? } else { value.clone().into_bytes() };
            list(KvRequest::Put { key: key.clone(), value: KvValue::of(&value) }).map(|_| ())
        }
        Kv::Del { key } => list(KvRequest::Delete { key: key.clone() }).map(|_| ()),
        Kv::Get { key } => {
            let found = list(KvRequest::Get { key: key.clone() })?;
            let Some(value) = found.entries.first().and_then(|e| e.value.as_ref()) else {
                return Err(format!("there is no record {key}"));
            };
            if as_json {
                return show(&found);
            }
            let mut bytes = value.bytes()?;
            if matches!(value, KvValue::Text(text) if !text.ends_with('\n')) {
                bytes.push(b'\n');
            }
            say_bytes(&bytes).map(|_| ())
        }
        Kv::List { prefix, limit } => show(&list(KvRequest::List { prefix: prefix.clone(), limit: *limit })?),
        Kv::Watch { prefix } => {
            let (mut epoch, mut serial) = (0, 0);
            loop {
                let found = list(KvRequest::Watch { prefix: prefix.clone(), epoch, serial })?;
                let news = if as_json {
                    json::line(&found)?
                } else {
                    found.entries.iter().map(line).collect::<String>()
                };
                (epoch, serial) = (found.epoch, found.serial);
                if !found.entries.is_empty() && !say_bytes(news.as_bytes())? {
                    return Ok(());
                }
            }
        }
    }
}

fn read_value() -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = std::io::stdin().take(MAX_VALUE as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|e| format!("standard input: {e}"))?;
    if bytes.len() > MAX_VALUE {
        return Err(format!("value: expected at most {MAX_VALUE} bytes, found more"));
    }
    Ok(bytes)
}
