//! Bodies of `Records` frames: runs of changes, prefixes as differences, labels as references.
//!
//! A batch has one label dictionary on both sides: a label travels in 8 bytes when it is first named and as a small
//! number from then on. Routes of one kind, origin, VRF and preference share a run's header; within a run a prefix is
//! the distance from the one before it, counted in its own size, so that a sorted table takes three to four bytes per
//! route. Order is free: an unsorted batch is only longer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hashbrown::HashMap;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::frame::{begin_frame, end_frame};
use crate::record::{Change, GroupValue, HopValue, Key, Label, OriginId, OriginValue, Value};
use crate::wire::{
    MAX_HOPS, MAX_NAME, MAX_OPAQUE, ProtocolError, Reader, put_blob, put_text, put_varint, put_wide,
};

const RECORDS: u8 = 7;
/// A frame is closed when its body has come this far: the largest record still fits.
const SPLIT: usize = 24 * 1024;
/// Labels of one batch.
const MAX_LABELS: usize = 1 << 22;

const RUN_V4: u8 = 1;
const RUN_V6: u8 = 2;
const GROUP: u8 = 4;
const GROUP_GONE: u8 = 5;
const ORIGIN: u8 = 6;
const ORIGIN_GONE: u8 = 7;
const OPAQUE: u8 = 8;
const OPAQUE_GONE: u8 = 9;
/// Added to a run's tag: routes of an origin; withdrawn routes.
const RIB: u8 = 16;
const GONE: u8 = 32;

const SAME_LABEL: u8 = 0x40;
const BACKWARDS: u8 = 0x80;

/// What the routes of a run have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RunKey {
    tag: u8,
    origin: u64,
    vrf: u32,
    distance: u8,
    metric: u32,
}

/// Writes the records of one batch as `Records` frames.
#[derive(Debug, Default)]
pub struct Encoder {
    labels: HashMap<Label, u32>,
    frame_at: Option<usize>,
    run: Option<(RunKey, usize, u16)>,
    address: u128,
    label: Option<Label>,
    count: u64,
}

impl Encoder {
    /// For a new batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Records written so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Appends a change; opens and closes frames as needed. Changes whose value is of another kind than the key,
    /// which no table holds, are left out.
    pub fn push(&mut self, change: &Change, out: &mut Vec<u8>) {
        if self.frame_at.is_some_and(|at| out.len() - at >= SPLIT) {
            self.flush(out);
        }
        if self.frame_at.is_none() {
            self.frame_at = Some(begin_frame(out, RECORDS));
        }
        self.count += 1;
        match change {
            Change::Put(Key::Route { vrf, prefix }, Value::Route(label)) => {
                self.route(None, *vrf, prefix, Some((*label, 0, 0)), out);
            }
            Change::Put(
                Key::RibRoute { origin, vrf, prefix },
                Value::RibRoute { label, distance, metric },
            ) => {
                self.route(Some(*origin), *vrf, prefix, Some((*label, *distance, *metric)), out);
            }
            Change::Delete(Key::Route { vrf, prefix }) => self.route(None, *vrf, prefix, None, out),
            Change::Delete(Key::RibRoute { origin, vrf, prefix }) => {
                self.route(Some(*origin), *vrf, prefix, None, out);
            }
            other => {
                self.end_run(out);
                if !put_other(other, out) {
                    self.count -= 1;
                }
            }
        }
    }

    /// Closes the open frame.
    pub fn flush(&mut self, out: &mut [u8]) {
        self.end_run(out);
        if let Some(at) = self.frame_at.take() {
            end_frame(out, at);
        }
    }

    fn end_run(&mut self, out: &mut [u8]) {
        if let Some((_, at, n)) = self.run.take()
            && let Some(place) = out.get_mut(at..at + 2)
        {
            place.copy_from_slice(&n.to_be_bytes());
        }
    }

    fn route(
        &mut self,
        origin: Option<OriginId>,
        vrf: u32,
        prefix: &IpNet,
        to: Option<(Label, u8, u32)>,
        out: &mut Vec<u8>,
    ) {
        let family = if prefix.addr().is_ipv4() { RUN_V4 } else { RUN_V6 };
        let tag = family | if origin.is_some() { RIB } else { 0 } | if to.is_none() { GONE } else { 0 };
        let (_, distance, metric) = to.unwrap_or((Label(0), 0, 0));
        let key = RunKey { tag, origin: origin.map_or(0, |o| o.0), vrf, distance, metric };
        match &mut self.run {
            Some((open, _, n)) if *open == key && *n < u16::MAX => *n += 1,
            _ => {
                self.end_run(out);
                out.push(tag);
                put_varint(out, u64::from(vrf));
                if tag & RIB != 0 {
                    out.extend_from_slice(&key.origin.to_be_bytes());
                }
                if tag & (RIB | GONE) == RIB {
                    out.push(distance);
                    put_varint(out, u64::from(metric));
                }
                self.run = Some((key, out.len(), 1));
                out.extend_from_slice(&[0, 0]);
                self.address = 0;
                self.label = None;
            }
        }
        let (bits, width) = match prefix {
            IpNet::V4(p) => (u128::from(u32::from(p.network())), 32),
            IpNet::V6(p) => (u128::from(p.network()), 128),
        };
        let len = prefix.prefix_len();
        let shift = u32::from(width - len);
        // A shift by 128 is the default route's, whose address is always 0.
        let (now, before) =
            (bits.checked_shr(shift).unwrap_or(0), self.address.checked_shr(shift).unwrap_or(0));
        let label = to.map(|(label, _, _)| label);
        let same = label.is_some() && label == self.label;
        let flags = if same { SAME_LABEL } else { 0 } | if now < before { BACKWARDS } else { 0 };
        if family == RUN_V4 {
            out.push(len | flags);
        } else {
            out.push(flags);
            out.push(len);
        }
        put_wide(out, now.abs_diff(before));
        self.address = bits;
        if let Some(label) = label.filter(|_| !same) {
            self.label = Some(label);
            let next = self.labels.len() as u32;
            let index = *self.labels.entry(label).or_insert(next);
            put_varint(out, u64::from(index));
            if index == next {
                out.extend_from_slice(&label.0.to_be_bytes());
            }
        }
    }
}

fn put_other(change: &Change, out: &mut Vec<u8>) -> bool {
    match change {
        Change::Put(Key::Group(label), Value::Group(group)) => {
            out.push(GROUP);
            out.extend_from_slice(&label.0.to_be_bytes());
            put_group(group, out);
        }
        Change::Delete(Key::Group(label)) => {
            out.push(GROUP_GONE);
            out.extend_from_slice(&label.0.to_be_bytes());
        }
        Change::Put(Key::Origin(id), Value::Origin(value)) => {
            out.push(ORIGIN);
            out.extend_from_slice(&id.0.to_be_bytes());
            put_text(out, &value.name, MAX_NAME);
            put_text(out, &value.server, MAX_NAME);
            out.extend_from_slice(&value.epoch.to_be_bytes());
            put_varint(out, value.sequence);
            out.push(u8::from(value.ready));
        }
        Change::Delete(Key::Origin(id)) => {
            out.push(ORIGIN_GONE);
            out.extend_from_slice(&id.0.to_be_bytes());
        }
        Change::Put(Key::Opaque(key), Value::Opaque(value)) => {
            out.push(OPAQUE);
            put_blob(out, key);
            put_blob(out, value);
        }
        Change::Delete(Key::Opaque(key)) => {
            out.push(OPAQUE_GONE);
            put_blob(out, key);
        }
        _ => return false,
    }
    true
}

fn put_group(group: &GroupValue, out: &mut Vec<u8>) {
    match group {
        GroupValue::Blackhole => out.push(1),
        GroupValue::Unreachable => out.push(2),
        GroupValue::Prohibit => out.push(3),
        GroupValue::Local => out.push(4),
        GroupValue::Hops(hops) => {
            out.push(0);
            put_varint(out, hops.len() as u64);
            for hop in hops {
                match hop.gateway {
                    None => out.push(0),
                    Some(IpAddr::V4(a)) => {
                        out.push(4);
                        out.extend_from_slice(&a.octets());
                    }
                    Some(IpAddr::V6(a)) => {
                        out.push(6);
                        out.extend_from_slice(&a.octets());
                    }
                }
                put_text(out, hop.port.as_deref().unwrap_or(""), MAX_NAME);
                put_varint(out, u64::from(hop.weight));
            }
        }
    }
}

/// Reads the `Records` frames of one batch.
#[derive(Debug, Default)]
pub struct Decoder {
    labels: Vec<Label>,
}

impl Decoder {
    /// For a new batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives each change of a frame's body to `take`, in order.
    pub fn decode(&mut self, body: &[u8], mut take: impl FnMut(Change)) -> Result<(), ProtocolError> {
        let r = &mut Reader::new("Records", body);
        while !r.is_empty() {
            let tag = r.u8("tag")?;
            match tag {
                GROUP => {
                    let label = Label(r.u64("label")?);
                    take(Change::Put(Key::Group(label), Value::Group(group(r)?)));
                }
                GROUP_GONE => take(Change::Delete(Key::Group(Label(r.u64("label")?)))),
                ORIGIN => {
                    let id = OriginId(r.u64("origin")?);
                    let value = OriginValue {
                        name: r.text("name", MAX_NAME)?,
                        server: r.text("server", MAX_NAME)?,
                        epoch: r.u64("epoch")?,
                        sequence: r.varint("sequence")?,
                        ready: r.u8("ready")? != 0,
                    };
                    take(Change::Put(Key::Origin(id), Value::Origin(value)));
                }
                ORIGIN_GONE => take(Change::Delete(Key::Origin(OriginId(r.u64("origin")?)))),
                OPAQUE => {
                    let key = Key::Opaque(r.blob("key", MAX_OPAQUE)?.into());
                    let value = Value::Opaque(r.blob("value", MAX_OPAQUE)?.into());
                    take(Change::Put(key, value));
                }
                OPAQUE_GONE => take(Change::Delete(Key::Opaque(r.blob("key", MAX_OPAQUE)?.into()))),
                _ if tag & !(RIB | GONE) == RUN_V4 => self.run(r, tag, 32, &mut take)?,
                _ if tag & !(RIB | GONE) == RUN_V6 => self.run(r, tag, 128, &mut take)?,
                other => return Err(r.invalid("tag", format!("expected a known record type, found {other}"))),
            }
        }
        Ok(())
    }

    fn run(
        &mut self,
        r: &mut Reader<'_>,
        tag: u8,
        width: u8,
        take: &mut impl FnMut(Change),
    ) -> Result<(), ProtocolError> {
        let vrf = r.limited("vrf", u64::from(u32::MAX))? as u32;
        let origin = if tag & RIB != 0 { Some(OriginId(r.u64("origin")?)) } else { None };
        let gone = tag & GONE != 0;
        let (distance, metric) = if origin.is_some() && !gone {
            (r.u8("distance")?, r.limited("metric", u64::from(u32::MAX))? as u32)
        } else {
            (0, 0)
        };
        let n = u16::from_be_bytes(r.array("routes")?);
        let mut address = 0u128;
        let mut label: Option<Label> = None;
        for _ in 0..n {
            let first = r.u8("prefix length")?;
            let (flags, len) =
                if width == 32 { (first, first & 0x3f) } else { (first, r.u8("prefix length")?) };
            if len > width {
                return Err(r.invalid("prefix length", format!("expected at most {width}, found {len}")));
            }
            let shift = u32::from(width - len);
            let before = address.checked_shr(shift).unwrap_or(0);
            let by = r.wide("prefix")?;
            let now = if flags & BACKWARDS != 0 { before.checked_sub(by) } else { before.checked_add(by) };
            let prefix = now
                .filter(|now| len == 128 || *now >> len == 0)
                .and_then(|now| net(width, now.checked_shl(shift).unwrap_or(0), len))
                .ok_or_else(|| r.invalid("prefix", "expected an address of the family"))?;
            address = match &prefix {
                IpNet::V4(p) => u128::from(u32::from(p.addr())),
                IpNet::V6(p) => u128::from(p.addr()),
            };
            let key = match origin {
                None => Key::Route { vrf, prefix },
                Some(origin) => Key::RibRoute { origin, vrf, prefix },
            };
            if gone {
                take(Change::Delete(key));
                continue;
            }
            if flags & SAME_LABEL == 0 {
                label = Some(self.label(r)?);
            }
            let label =
                label.ok_or_else(|| r.invalid("label", "expected one for the first route of a run"))?;
            take(Change::Put(
                key,
                match origin {
                    None => Value::Route(label),
                    Some(_) => Value::RibRoute { label, distance, metric },
                },
            ));
        }
        Ok(())
    }

    fn label(&mut self, r: &mut Reader<'_>) -> Result<Label, ProtocolError> {
        let index = r.limited("label", self.labels.len().min(MAX_LABELS) as u64)? as usize;
        if let Some(&label) = self.labels.get(index) {
            return Ok(label);
        }
        let label = Label(r.u64("label")?);
        self.labels.push(label);
        Ok(label)
    }
}

fn net(width: u8, bits: u128, len: u8) -> Option<IpNet> {
    if width == 32 {
        Ipv4Net::new(Ipv4Addr::from(bits as u32), len).ok().map(IpNet::V4)
    } else {
        Ipv6Net::new(Ipv6Addr::from(bits), len).ok().map(IpNet::V6)
    }
}

fn group(r: &mut Reader<'_>) -> Result<GroupValue, ProtocolError> {
    Ok(match r.u8("group")? {
        0 => {
            let n = r.limited("hops", MAX_HOPS as u64)?;
            GroupValue::Hops((0..n).map(|_| hop(r)).collect::<Result<_, _>>()?)
        }
        1 => GroupValue::Blackhole,
        2 => GroupValue::Unreachable,
        3 => GroupValue::Prohibit,
        4 => GroupValue::Local,
        other => return Err(r.invalid("group", format!("expected 0 to 4, found {other}"))),
    })
}

fn hop(r: &mut Reader<'_>) -> Result<HopValue, ProtocolError> {
    let gateway = match r.u8("gateway")? {
        0 => None,
        4 => Some(IpAddr::from(r.array::<4>("gateway")?)),
        6 => Some(IpAddr::from(r.array::<16>("gateway")?)),
        other => return Err(r.invalid("gateway", format!("expected family 0, 4 or 6, found {other}"))),
    };
    let port = Some(r.text("port", MAX_NAME)?).filter(|p| !p.is_empty());
    let weight = r.limited("weight", u64::from(u16::MAX))? as u16;
    Ok(HopValue { gateway, port, weight })
}
