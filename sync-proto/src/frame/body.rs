//! The fields of each frame, as specified in `PROTOCOL.md`.

use super::{
    Frame, INSTALLED, MAGIC, MAX_SYMBOL_INDEX, MAX_SYMBOLS, MAX_WANT, Mode, REFUSED, Role, State, VERSION,
    begin_frame, end_frame, name_of, not_fibcast,
};
use crate::digest::KeyId;
use crate::refusal::{LIMIT, Reason, RouteKey};
use crate::sketch::{RootDigest, Symbol, expected_count};
use crate::subset::{prefix, put_prefix, put_subset, subset};
use crate::wire::{
    MAX_NAME, MAX_TEXT, ProtocolError, Reader, put_names, put_text, put_varint, unzigzag, zigzag,
};

impl Frame<'_> {
    /// Appends the encoded frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let at = begin_frame(out, self.kind());
        match self {
            Self::Hello { name } => {
                out.extend_from_slice(&MAGIC);
                put_varint(out, VERSION);
                put_text(out, name, MAX_NAME);
            }
            Self::Register { table, role, heartbeat_ms, digest_key, path, subset } => {
                put_text(out, table, MAX_NAME);
                out.push(u8::from(*role == Role::Secondary));
                put_varint(out, *heartbeat_ms);
                out.extend_from_slice(&digest_key.0.to_be_bytes());
                put_names(out, path);
                put_subset(out, subset);
            }
            Self::Welcome(state) | Self::Heartbeat(Some(state)) => put_state(out, state),
            Self::Heartbeat(None) | Self::Deactivate => {}
            Self::Activate { epoch, serial, digest, copy } => {
                out.extend_from_slice(&epoch.to_be_bytes());
                put_varint(out, *serial);
                put_digest(out, digest);
                out.push(u8::from(*copy));
            }
            Self::Begin { mode, from } => {
                out.push(match mode {
                    Mode::Changes => 0,
                    Mode::Snapshot => 1,
                    Mode::Reconcile => 2,
                });
                put_varint(out, *from);
            }
            Self::Records(body) => out.extend_from_slice(body),
            Self::Commit { epoch, serial, count, digest } => {
                out.extend_from_slice(&epoch.to_be_bytes());
                put_varint(out, *serial);
                put_varint(out, *count);
                put_digest(out, digest);
            }
            Self::Equal { epoch, serial } => {
                out.extend_from_slice(&epoch.to_be_bytes());
                put_varint(out, *serial);
            }
            Self::Installed { epoch, serial } => {
                out.extend_from_slice(&epoch.to_be_bytes());
                put_varint(out, serial.map_or(0, |serial| serial.saturating_add(1)));
            }
            Self::Refused { epoch, whole, more, routes } => {
                out.extend_from_slice(&epoch.to_be_bytes());
                out.push(u8::from(*whole));
                put_varint(out, *more);
                put_varint(out, routes.len().min(LIMIT) as u64);
                for ((vrf, prefix), reason) in routes.iter().take(LIMIT) {
                    out.push(reason.map_or(0, Reason::code));
                    put_varint(out, u64::from(*vrf));
                    put_prefix(out, prefix, &[]);
                }
            }
            Self::Symbols { serial, count, first, symbols } => {
                put_varint(out, *serial);
                put_varint(out, *count);
                put_varint(out, *first);
                put_varint(out, symbols.len() as u64);
                for (index, s) in (*first..).zip(symbols) {
                    out.extend_from_slice(&s.sum.to_be_bytes());
                    out.extend_from_slice(&s.check.to_be_bytes());
                    put_varint(out, zigzag(s.count.wrapping_sub(expected_count(*count, index))));
                }
            }
            Self::More { until } => put_varint(out, *until),
            Self::Want { last, ids } => {
                out.push(u8::from(*last));
                put_varint(out, ids.len() as u64);
                ids.iter().for_each(|id| out.extend_from_slice(&id.to_be_bytes()));
            }
            Self::Error { text } => put_text(out, text, MAX_TEXT),
        }
        end_frame(out, at);
    }

    pub(super) fn decode(kind: u8, body: &[u8]) -> Result<Frame<'_>, ProtocolError> {
        let r = &mut Reader::new(name_of(kind), body);
        Ok(match kind {
            1 => {
                if r.array::<4>("magic")? != MAGIC {
                    return Err(not_fibcast(body));
                }
                let found = r.varint("version")?;
                if found != VERSION {
                    return Err(ProtocolError::Version { expected: VERSION, found });
                }
                Frame::Hello { name: r.text("name", MAX_NAME)? }
            }
            2 => {
                let table = r.text("table", MAX_NAME)?;
                let role = match r.u8("role")? {
                    0 => Role::Primary,
                    1 => Role::Secondary,
                    other => return Err(r.invalid("role", format!("expected 0 or 1, found {other}"))),
                };
                let heartbeat_ms = r.limited("heartbeat", 60_000)?;
                if heartbeat_ms < 10 {
                    return Err(
                        r.invalid("heartbeat", format!("expected at least 10 ms, found {heartbeat_ms}"))
                    );
                }
                let digest_key = KeyId(r.u64("digest key")?);
                let path = r.names("path")?;
                Frame::Register { table, role, heartbeat_ms, digest_key, path, subset: subset(r)? }
            }
            3 => Frame::Welcome(state(r)?),
            4 => Frame::Activate {
                epoch: r.u64("epoch")?,
                serial: r.varint("serial")?,
                digest: digest(r)?,
                copy: r.u8("copy")? != 0,
            },
            5 => Frame::Deactivate,
            6 => {
                let mode = match r.u8("mode")? {
                    0 => Mode::Changes,
                    1 => Mode::Snapshot,
                    2 => Mode::Reconcile,
                    other => return Err(r.invalid("mode", format!("expected 0, 1 or 2, found {other}"))),
                };
                Frame::Begin { mode, from: r.varint("from")? }
            }
            7 => Frame::Records(body),
            8 => Frame::Commit {
                epoch: r.u64("epoch")?,
                serial: r.varint("serial")?,
                count: r.varint("count")?,
                digest: digest(r)?,
            },
            9 => Frame::Equal { epoch: r.u64("epoch")?, serial: r.varint("serial")? },
            10 => {
                let serial = r.varint("serial")?;
                let count = r.varint("count")?;
                let first = r.limited("first", MAX_SYMBOL_INDEX)?;
                let n = r.limited("symbols", MAX_SYMBOLS as u64)?;
                let mut symbols = Vec::with_capacity(n as usize);
                for index in first..first + n {
                    let sum = r.u64("sum")?;
                    let check = u32::from_be_bytes(r.array("check")?);
                    let by = unzigzag(r.varint("count of symbol")?);
                    symbols.push(Symbol { sum, check, count: expected_count(count, index).wrapping_add(by) });
                }
                Frame::Symbols { serial, count, first, symbols }
            }
            11 => Frame::More { until: r.limited("until", MAX_SYMBOL_INDEX)? },
            12 => {
                let last = r.u8("last")? != 0;
                let n = r.limited("identities", MAX_WANT as u64)?;
                let ids = (0..n).map(|_| r.u64("identity")).collect::<Result<_, _>>()?;
                Frame::Want { last, ids }
            }
            13 if r.is_empty() => Frame::Heartbeat(None),
            13 => Frame::Heartbeat(Some(state(r)?)),
            14 => Frame::Error { text: r.text("text", MAX_TEXT)? },
            INSTALLED => {
                Frame::Installed { epoch: r.u64("epoch")?, serial: r.varint("serial")?.checked_sub(1) }
            }
            REFUSED => {
                let epoch = r.u64("epoch")?;
                // Further bits are reserved for later versions.
                let whole = r.u8("flags")? & 1 != 0;
                let more = r.varint("more")?;
                let n = r.limited("routes", LIMIT as u64)?;
                let routes = (0..n).map(|_| refused(r)).collect::<Result<_, _>>()?;
                Frame::Refused { epoch, whole, more, routes }
            }
            other => return Err(ProtocolError::UnknownFrame(other)),
        })
    }
}

fn refused(r: &mut Reader<'_>) -> Result<(RouteKey, Option<Reason>), ProtocolError> {
    let reason = Reason::of_code(r.u8("reason")?);
    let vrf = r.limited("VRF", u64::from(u32::MAX))? as u32;
    let (prefix, []) = prefix(r, "prefix")?;
    Ok(((vrf, prefix), reason))
}

fn put_digest(out: &mut Vec<u8>, d: &RootDigest) {
    out.extend_from_slice(&d.hash.to_be_bytes());
    put_varint(out, d.count);
}

fn digest(r: &mut Reader<'_>) -> Result<RootDigest, ProtocolError> {
    Ok(RootDigest { hash: r.u128("digest")?, count: r.varint("records")? })
}

fn put_state(out: &mut Vec<u8>, s: &State) {
    out.extend_from_slice(&s.epoch.to_be_bytes());
    put_varint(out, s.serial);
    put_digest(out, &s.digest);
    out.push(u8::from(s.ready) | u8::from(s.stale) << 1);
    put_names(out, &s.path);
}

fn state(r: &mut Reader<'_>) -> Result<State, ProtocolError> {
    let (epoch, serial, digest) = (r.u64("epoch")?, r.varint("serial")?, digest(r)?);
    // Further bits are reserved for later versions.
    let flags = r.u8("flags")?;
    Ok(State { epoch, serial, digest, ready: flags & 1 != 0, stale: flags & 2 != 0, path: r.names("path")? })
}
