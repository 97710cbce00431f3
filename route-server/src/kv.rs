//! Opaque records: written at any route server, identical on all, and not lost with one.
//!
//! Unlike a route, a record has no origin that could die: each server keeps all of them in its own `rib` table, with versions, and adopts
//! newer ones from its peers. A version is a clock that never goes back {microseconds since 1970, or one more than any seen}; equal
//! versions are decided by content, so all servers choose the same one in whatever order they arrive. A deletion has a version as well, and
//! is forgotten after an hour. Clients get only key and value in `fib`: after a failover the other server has equal records.
//!
//! Value in `rib`: 8 bytes version in network order, 1 byte (0 value, 1 deleted), the value.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fibcast_control::kv::{MAX_KEYS, MAX_VALUE, check_key};
use fibcast_sync_proto::{Change, Key, Table, TableError, Value};

/// How long a deletion is remembered: a server that was disconnected longer may revive a deleted record.
const REMEMBER: Duration = Duration::from_secs(3600);
/// Versions further in the future are ignored: a peer's clock must not drag ours along.
const AHEAD: Duration = Duration::from_secs(24 * 3600);

/// Why a record cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum KvError {
    /// A limit is exceeded; the text names it.
    #[error("{0}")]
    Limit(String),
    /// The table refused the record.
    #[error("the table refused the record: {0}")]
    Table(#[from] TableError),
}

fn micros() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

/// A record as exchanged between servers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Version<'a> {
    clock: u64,
    deleted: bool,
    value: &'a [u8],
}

impl<'a> Version<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (clock, rest) = bytes.split_first_chunk::<8>()?;
        let (deleted, value) = rest.split_first()?;
        Some(Self { clock: u64::from_be_bytes(*clock), deleted: *deleted != 0, value })
    }

    fn encode(&self) -> Box<[u8]> {
        let mut bytes = self.clock.to_be_bytes().to_vec();
        bytes.push(u8::from(self.deleted));
        bytes.extend(self.value);
        bytes.into()
    }
}

/// Writes a record, or deletes it, as the newest version. False: there was nothing to delete.
///
/// # Errors
/// [`KvError`] if key or value exceeds a limit, or the table refuses the record.
pub fn put(own: &mut Table, fib: &mut Table, key: &str, value: Option<&[u8]>) -> Result<bool, KvError> {
    check_key(key).map_err(KvError::Limit)?;
    let found = value.map_or(0, <[u8]>::len);
    if found > MAX_VALUE {
        return Err(KvError::Limit(format!("value: expected at most {MAX_VALUE} bytes, found {found}")));
    }
    let record = Key::Opaque(key.as_bytes().into());
    let known = fib.get(&record).is_some();
    if value.is_none() && !known {
        return Ok(false);
    }
    if !known && fib.counts().opaque >= MAX_KEYS {
        return Err(KvError::Limit(format!("expected at most {MAX_KEYS} records, and there are that many")));
    }
    let before = match own.get(&record) {
        Some(Value::Opaque(bytes)) => Version::parse(&bytes).map_or(0, |v| v.clock),
        _ => 0,
    };
    let version = Version {
        clock: micros().max(before + 1),
        deleted: value.is_none(),
        value: value.unwrap_or_default(),
    };
    forget(own)?;
    take(own, fib, key.as_bytes(), &version)?;
    Ok(true)
}

/// Adopts newer records from a peer's table.
///
/// # Errors
/// [`TableError`] if a table refuses a record.
pub fn merge(
    own: &mut Table,
    fib: &mut Table,
    theirs: impl IntoIterator<Item = (Box<[u8]>, Box<[u8]>)>,
) -> Result<(), TableError> {
    let horizon = micros() + AHEAD.as_micros() as u64;
    for (key, bytes) in theirs {
        // A version that this server cannot parse is ignored.
        let Some(new) = Version::parse(&bytes).filter(|v| v.clock <= horizon) else { continue };
        let record = Key::Opaque(key.clone());
        if own.get(&record).is_none() && own.counts().opaque >= 2 * MAX_KEYS {
            tracing::warn!("peers have more than {} opaque records: ignoring the rest", 2 * MAX_KEYS);
            return Ok(());
        }
        let newer = match own.get(&record) {
            Some(Value::Opaque(ours)) => Version::parse(&ours).is_none_or(|ours| ours < new),
            _ => true,
        };
        if newer {
            take(own, fib, &key, &new)?;
        }
    }
    Ok(())
}

fn take(own: &mut Table, fib: &mut Table, key: &[u8], version: &Version<'_>) -> Result<(), TableError> {
    let record = Key::Opaque(key.into());
    own.commit([Change::Put(record.clone(), Value::Opaque(version.encode()))])?;
    let shown = match version.deleted {
        true => Change::Delete(record),
        false => Change::Put(record, Value::Opaque(version.value.into())),
    };
    fib.commit([shown])?;
    Ok(())
}

/// Forgets old deletions.
///
/// # Errors
/// [`TableError`] if the table refuses the batch.
fn forget(own: &mut Table) -> Result<(), TableError> {
    if own.counts().opaque < MAX_KEYS / 2 {
        return Ok(());
    }
    let before = micros().saturating_sub(REMEMBER.as_micros() as u64);
    let all = own.page(Some(&Key::Opaque(Box::from([]))), usize::MAX, |key| matches!(key, Key::Opaque(_)));
    let old = all.records.into_iter().filter_map(|(key, value)| match value {
        Value::Opaque(bytes) => {
            let version = Version::parse(&bytes)?;
            (version.deleted && version.clock < before).then_some(Change::Delete(key))
        }
        _ => None,
    });
    own.commit(old.collect::<Vec<_>>())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    type Records = Vec<(Box<[u8]>, Box<[u8]>)>;

    struct Server {
        own: Table,
        fib: Table,
    }

    impl Server {
        fn new(epoch: u64) -> Self {
            Self { own: Table::new(epoch), fib: Table::new(epoch) }
        }

        fn put(&mut self, key: &str, value: Option<&str>) -> Result<bool, KvError> {
            put(&mut self.own, &mut self.fib, key, value.map(str::as_bytes))
        }

        fn records(&self) -> Records {
            let opaque = |(key, value)| match (key, value) {
                (Key::Opaque(key), Value::Opaque(value)) => Some((key, value)),
                _ => None,
            };
            self.own.iter().filter_map(opaque).collect()
        }

        fn hear(&mut self, other: &Server) {
            merge(&mut self.own, &mut self.fib, other.records()).unwrap();
        }

        fn get(&self, key: &str) -> Option<Vec<u8>> {
            match self.fib.get(&Key::Opaque(key.as_bytes().into()))? {
                Value::Opaque(value) => Some(value.into()),
                _ => None,
            }
        }
    }

    #[test]
    fn the_last_write_wins_everywhere_whatever_the_way_it_takes() {
        let (mut a, mut b, mut c) = (Server::new(1), Server::new(2), Server::new(3));
        a.put("k", Some("one")).unwrap();
        b.hear(&a);
        b.put("k", Some("two")).unwrap();
        b.put("other", Some("x")).unwrap();
        // c gets the old one last, from a, which does not have b's.
        c.hear(&b);
        c.hear(&a);
        a.hear(&c);
        for server in [&a, &b, &c] {
            assert_eq!(server.get("k").unwrap(), b"two");
            assert_eq!(server.fib.digest(), a.fib.digest());
            assert_eq!(server.own.digest(), a.own.digest());
        }
    }

    #[test]
    fn deletion_is_not_undone_by_a_server_that_has_not_heard_of_it() {
        let (mut a, mut b) = (Server::new(1), Server::new(2));
        a.put("k", Some("one")).unwrap();
        b.hear(&a);
        assert!(a.put("k", None).unwrap());
        a.hear(&b);
        assert_eq!(a.get("k"), None);
        b.hear(&a);
        assert_eq!((b.get("k"), b.fib.len()), (None, 0));
        assert!(!b.put("k", None).unwrap(), "there is nothing to delete");
        b.put("k", Some("again")).unwrap();
        a.hear(&b);
        assert_eq!(a.get("k").unwrap(), b"again");
    }

    #[test]
    fn writes_at_two_servers_at_once_are_decided_alike() {
        let (mut a, mut b) = (Server::new(1), Server::new(2));
        for (server, value) in [(&mut a, "x"), (&mut b, "y")] {
            let version = Version { clock: 7, deleted: false, value: value.as_bytes() };
            take(&mut server.own, &mut server.fib, b"k", &version).unwrap();
        }
        let (before_a, before_b) = (a.records(), b.records());
        merge(&mut a.own, &mut a.fib, before_b).unwrap();
        merge(&mut b.own, &mut b.fib, before_a).unwrap();
        assert_eq!((a.get("k").unwrap(), b.get("k").unwrap()), (b"y".to_vec(), b"y".to_vec()));
    }

    #[test]
    fn limits_are_named() {
        let mut a = Server::new(1);
        let error = a.put(&"k".repeat(2000), Some("")).unwrap_err().to_string();
        assert!(error.contains("1 to 1024 bytes"), "{error}");
        let error = a.put("k", Some(&"v".repeat(16_001))).unwrap_err().to_string();
        assert_eq!(error, "value: expected at most 16000 bytes, found 16001");
        a.put("k", Some(&"v".repeat(16_000))).unwrap();
    }

    #[test]
    fn version_from_a_mad_clock_or_of_no_sense_is_left_alone() {
        let mut a = Server::new(1);
        let mad = Version { clock: u64::MAX, deleted: false, value: b"x" }.encode();
        merge(&mut a.own, &mut a.fib, [(Box::from(*b"k"), mad), (Box::from(*b"l"), Box::from(*b"short"))])
            .unwrap();
        assert!(a.own.is_empty() && a.fib.is_empty());
    }
}
