//! The checkpoint file: format, validation, and loading.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `FIBCKPT` and a line feed |
//! | 4 | version, network order |
//! | 1 + n | length and name of the table |
//! | 8 | name of the digest key |
//! | … | frames of the sync protocol: Hello, Begin (snapshot), Records …, Commit |
//! | 16 | SipHash-1-3, 128 bits, of everything before |
//!
//! The Commit contains the root digest, so the table is verified twice: as bytes and as records. A file under another key that the node
//! accepts is used; its table goes over to the node's own key.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use fibcast_sync_proto::codec::Decoder;
use fibcast_sync_proto::frame::{Frame, Inbox, Mode};
use fibcast_sync_proto::wire::ProtocolError;
use fibcast_sync_proto::{ChangeRef, DigestKeys, KeyId, Table, TableError};
use siphasher::sip128::{Hasher128, SipHasher13};

const MAGIC: [u8; 8] = *b"FIBCKPT\n";
/// Version of the file.
const VERSION: u32 = 2;
/// Bytes of the checksum.
pub(super) const SUM: usize = 16;
/// Largest file that is read; a full Internet table takes some 5 MB.
const MAX_FILE: u64 = 2 << 30;

/// Why a checkpoint is not used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The file is not a checkpoint, or is incomplete.
    #[error("{path}: {reason}")]
    Refused {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        reason: String,
    },
}

/// The start of the file for this table.
pub(super) fn head(table: &str, digest_key: KeyId) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(VERSION.to_be_bytes());
    let name = table.as_bytes().get(..255).unwrap_or(table.as_bytes());
    bytes.push(name.len() as u8);
    bytes.extend(name);
    bytes.extend(digest_key.0.to_be_bytes());
    preface(&mut bytes);
    bytes
}

/// Frames before the records.
fn preface(out: &mut Vec<u8>) {
    Frame::Hello { name: "checkpoint".into() }.encode(out);
    Frame::Begin { mode: Mode::Snapshot, from: 0 }.encode(out);
}

/// A checksum of a file that is being written.
pub(super) fn sum() -> SipHasher13 {
    SipHasher13::new_with_keys(0x6669_6263_6173_7421, 0x636b_7074_2d2d_2d31)
}

/// Loads a checkpoint. None if there is none.
///
/// # Errors
/// [`CheckpointError`] if the file cannot be read, is damaged, or belongs to another table, version or digest key.
pub fn load(
    path: &Path,
    table: &str,
    epoch: u64,
    keys: &DigestKeys,
) -> Result<Option<Table>, CheckpointError> {
    let unreadable = |source| CheckpointError::Unreadable { path: path.to_owned(), source };
    let file = match File::open(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(unreadable)?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    let refused = |reason| CheckpointError::Refused { path: path.to_owned(), reason };
    parse(&bytes, table, epoch, keys).map(Some).map_err(refused)
}

fn parse(bytes: &[u8], table: &str, epoch: u64, keys: &DigestKeys) -> Result<Table, String> {
    if bytes.len() as u64 > MAX_FILE {
        return Err(format!("expected at most {MAX_FILE} bytes, found more"));
    }
    let Some((magic, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(format!("truncated: expected a checkpoint, found {} bytes", bytes.len()));
    };
    if *magic != MAGIC {
        return Err("expected a checkpoint of fibcast, found something else".into());
    }
    let Some((version, rest)) = rest.split_first_chunk::<4>() else {
        return Err(format!("truncated after {} bytes", bytes.len()));
    };
    let version = u32::from_be_bytes(*version);
    if version != VERSION {
        return Err(format!("expected version {VERSION} of the file, found {version}"));
    }
    let Some((_, sum_found)) = rest.split_last_chunk::<SUM>() else {
        return Err(format!("truncated after {} bytes", bytes.len()));
    };
    let mut hasher = sum();
    std::hash::Hasher::write(&mut hasher, bytes.get(..bytes.len() - SUM).unwrap_or_default());
    if hasher.finish128().as_bytes() != *sum_found {
        return Err("the checksum does not fit: truncated or corrupt".into());
    }
    let body = rest.get(..rest.len() - SUM).unwrap_or_default();
    let (name, frames) = body
        .split_first()
        .and_then(|(n, rest)| rest.split_at_checked(usize::from(*n)))
        .ok_or("truncated: expected the name of a table")?;
    if name != table.as_bytes() {
        let found = String::from_utf8_lossy(name);
        return Err(format!("expected the table {table:?}, found the table {found:?}"));
    }
    let (id, frames) = frames.split_first_chunk().ok_or("truncated: expected the name of a digest key")?;
    let id = KeyId(u64::from_be_bytes(*id));
    let key = keys
        .find(id)
        .ok_or_else(|| format!("expected a file under digest key {keys}, found one under {id}"))?;
    let mut table = build(frames, Table::new(epoch).with_digest_key(key))?;
    if key != keys.own() {
        table.rekey(keys.own(), epoch);
    }
    Ok(table)
}

fn build(mut frames: &[u8], mut table: Table) -> Result<Table, String> {
    let (mut inbox, mut decoder) = (Inbox::default(), Decoder::new());
    loop {
        while let Some(frame) = inbox.next().map_err(|e| e.to_string())? {
            match frame {
                Frame::Hello { .. } | Frame::Begin { mode: Mode::Snapshot, .. } => {}
                Frame::Records(body) => {
                    let mut transaction = table.begin();
                    let add = |change: ChangeRef<'_>| Ok::<(), LoadError>(transaction.push(change)?);
                    decoder.decode(body, add).map_err(|e| e.to_string())?;
                    transaction.commit().map_err(|e| e.to_string())?;
                }
                Frame::Commit { digest, .. } => {
                    if table.digest() != digest {
                        return Err(format!("expected digest {digest}, found {}", table.digest()));
                    }
                    return Ok(table);
                }
                other => return Err(format!("expected records, found a {} frame", other.name())),
            }
        }
        if frames.is_empty() {
            return Err("truncated: expected a Commit frame at the end, found none".into());
        }
        let (part, rest) = frames.split_at(frames.len().min(256 * 1024));
        inbox.push(part);
        frames = rest;
    }
}

/// Why a record is not loaded.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
enum LoadError {
    Protocol(#[from] ProtocolError),
    Table(#[from] TableError),
}
