//! Opaque records of a table for operators: get, list, and watch for changes.

use std::time::Duration;

use crossbeam_channel::Sender;
use fibcast_control::kv::{KvEntry, KvList, KvValue};
use fibcast_control::protocol::Answer;
use fibcast_sync_proto::{ChangeRef, Key, Table, Value};

/// How long a watcher waits for a change before it gets an empty answer.
const WAIT: Duration = Duration::from_secs(3);
/// Most watchers.
const MAX_WAITING: usize = 64;
/// Most records in one answer.
const MAX_RECORDS: usize = 10_000;

type Reply = Sender<Result<Answer, String>>;

fn opaque(key: &[u8]) -> Key {
    Key::Opaque(key.into())
}

fn entry(key: &[u8], value: Option<&[u8]>) -> KvEntry {
    KvEntry { key: String::from_utf8_lossy(key).into_owned(), value: value.map(KvValue::of) }
}

fn list_of(table: &Table, whole: bool, entries: Vec<KvEntry>) -> KvList {
    KvList { epoch: table.epoch(), serial: table.serial(), whole, entries }
}

/// The record with this key, or none.
pub fn get(table: &Table, key: &str) -> KvList {
    let found = match table.get(&opaque(key.as_bytes())) {
        Some(Value::Opaque(value)) => vec![entry(key.as_bytes(), Some(&value))],
        _ => Vec::new(),
    };
    list_of(table, true, found)
}

/// The records whose keys begin with `prefix`.
pub fn list(table: &Table, prefix: &str, limit: usize) -> KvList {
    let limit = limit.min(MAX_RECORDS);
    let first = get(table, prefix).entries;
    let begins = |key: &Key| matches!(key, Key::Opaque(key) if key.starts_with(prefix.as_bytes()));
    let rest = table.page(Some(&opaque(prefix.as_bytes())), limit, begins).records;
    let rest = rest.iter().filter_map(|(key, value)| match (key, value) {
        (Key::Opaque(key), Value::Opaque(value)) => Some(entry(key, Some(value))),
        _ => None,
    });
    // An empty prefix is not a valid key.
    list_of(table, true, first.into_iter().chain(rest).take(limit).collect())
}

/// Changes among those records since a serial; none if nothing changed.
fn changes(table: &Table, prefix: &str, epoch: u64, serial: u64) -> Option<KvList> {
    let since = (epoch == table.epoch()).then(|| table.changes_since(serial)).flatten();
    let Some(batch) = since else { return Some(list(table, prefix, MAX_RECORDS)) };
    let entries: Vec<KvEntry> = batch
        .changes()
        .filter_map(|change| match change {
            ChangeRef::Opaque { key, value } if key.starts_with(prefix.as_bytes()) => Some(entry(key, value)),
            _ => None,
        })
        .collect();
    (!entries.is_empty()).then(|| list_of(table, false, entries))
}

/// Watchers that wait for a change.
#[derive(Debug, Default)]
pub struct Watchers(Vec<Watcher>);

#[derive(Debug)]
struct Watcher {
    prefix: String,
    epoch: u64,
    serial: u64,
    until: Duration,
    reply: Reply,
}

impl Watchers {
    /// Adds a watcher for changes after a serial.
    pub fn add(&mut self, now: Duration, prefix: String, epoch: u64, serial: u64, reply: Reply) {
        if self.0.len() >= MAX_WAITING {
            let _ = reply.try_send(Err(format!("expected at most {MAX_WAITING} watchers at once")));
            return;
        }
        self.0.push(Watcher { prefix, epoch, serial, until: now + WAIT, reply });
    }

    /// Answers watchers with changes, or whose time is over. Returns the time of the next call, if any watcher is left.
    pub fn turn(&mut self, now: Duration, table: &Table) -> Option<Duration> {
        self.0.retain_mut(|w| {
            let fresh = w.epoch != table.epoch() || w.serial != table.serial();
            let mut news = if fresh { changes(table, &w.prefix, w.epoch, w.serial) } else { None };
            // Changes that were examined once are not examined again.
            (w.epoch, w.serial) = (table.epoch(), table.serial());
            if news.is_none() && now >= w.until {
                news = Some(list_of(table, false, Vec::new()));
            }
            match news {
                None => true,
                Some(news) => {
                    let _ = w.reply.try_send(Ok(Answer::Kv(news)));
                    false
                }
            }
        });
        self.0.iter().map(|w| w.until).min()
    }
}
