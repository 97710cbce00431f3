//! What IGMP and MLD have in common: queries, and the records of reports (RFC 3376 §4, RFC 3810 §5).

use std::net::IpAddr;
use std::time::Duration;

use super::{put, take};

/// RFC 3376 §8.2, RFC 3810 §9.2: the query interval if a query does not say.
const INTERVAL: Duration = Duration::from_secs(125);

/// Version of a query, and of the reports that answer it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// IGMPv3, MLDv2.
    Newest,
    /// IGMPv2, MLDv1.
    Older,
    /// IGMPv1.
    Oldest,
}

/// A query of any version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query {
    /// Its version.
    pub version: Version,
    /// The group it asks about; `None` in a general query.
    pub group: Option<IpAddr>,
    /// Longest delay of an answer.
    pub response: Duration,
    /// Robustness variable of the querier; 0 if it does not say.
    pub robustness: u8,
    /// Query interval of the querier.
    pub interval: Duration,
}

impl Query {
    /// A query of a version without robustness and interval.
    pub(super) fn old(version: Version, group: Option<IpAddr>, response: Duration) -> Query {
        Query { version, group, response, robustness: 0, interval: INTERVAL }
    }
}

/// Type of a record (RFC 3376 §4.2.12, RFC 3810 §5.2.12). All have an empty list of sources: none of this router's groups is for single
/// sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Record {
    /// MODE_IS_EXCLUDE: a member, in answer to a query.
    IsExclude = 2,
    /// CHANGE_TO_INCLUDE_MODE: not a member any more.
    ToInclude = 3,
    /// CHANGE_TO_EXCLUDE_MODE: a member from now on.
    ToExclude = 4,
}

/// Turns each record by which a member leaves a group that `keeps` names into one that joins it. Groups have `length` bytes. Returns whether
/// anything changed.
pub(super) fn keep(message: &mut [u8], keeps: impl Fn(&[u8]) -> bool, length: usize) -> bool {
    const FIXED: usize = 4;
    let Some(&[.., high, low]) = take::<8>(message, 0) else { return false };
    let (mut at, mut changed) = (8, false);
    for _ in 0..u16::from_be_bytes([high, low]) {
        let Some(&[kind, auxiliary, high, low]) = take::<FIXED>(message, at) else { break };
        let sources = usize::from(u16::from_be_bytes([high, low]));
        let group = message.get(at + FIXED..).unwrap_or_default();
        if kind == Record::ToInclude as u8 && sources == 0 && keeps(group) {
            put(message, at, &[Record::ToExclude as u8]);
            changed = true;
        }
        at += FIXED + length * (1 + sources) + usize::from(auxiliary) * 4;
    }
    changed
}

/// RFC 3376 §4.1.1, §4.1.7, RFC 3810 §5.1.9: small numbers as they are, large ones as a floating-point number.
pub(super) fn float(code: u8) -> u32 {
    match code {
        0..128 => code.into(),
        _ => (u32::from(code & 0x0f) | 0x10) << ((code >> 4 & 7) + 3),
    }
}

/// RFC 3376 §4.2, RFC 3810 §5.2: the message of a report of the newest version, without its checksum.
pub(super) fn body<const N: usize>(
    kind: u8,
    records: impl ExactSizeIterator<Item = (Record, [u8; N])>,
) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0, 0, 0];
    message.extend((records.len() as u16).to_be_bytes());
    for (record, group) in records {
        message.extend([record as u8, 0, 0, 0]);
        message.extend(group);
    }
    message
}
