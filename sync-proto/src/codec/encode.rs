//! Encodes changes into `Records` frames.

use std::net::IpAddr;

use hashbrown::HashMap;
use ipnet::IpNet;

use super::{
    BACKWARDS, GONE, GROUP, GROUP_GONE, OPAQUE, OPAQUE_GONE, ORIGIN, ORIGIN_GONE, RIB, RUN_V4, RUN_V6,
    SAME_LABEL,
};
use crate::change::{ChangeRef, Path};
use crate::frame::{RECORDS, begin_frame, end_frame};
use crate::record::{GroupValue, Label, OriginId};
use crate::wire::{MAX_NAME, put_blob, put_text, put_varint, put_wide};

/// A frame is closed when its body reaches this size: the largest record still fits.
const SPLIT: usize = 24 * 1024;
/// The common fields of a run of routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RunKey {
    tag: u8,
    origin: u64,
    vrf: u32,
    distance: u8,
    metric: u32,
}

/// Encodes the records of one batch as `Records` frames.
#[derive(Debug, Clone, Default)]
pub struct Encoder {
    labels: HashMap<Label, u32>,
    frame_at: Option<usize>,
    run: Option<(RunKey, usize, u16)>,
    address: u128,
    label: Option<Label>,
    count: u64,
}

impl Encoder {
    /// An encoder for a new batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Records written so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Appends a change; opens and closes frames as needed.
    pub fn push(&mut self, change: ChangeRef<'_>, out: &mut Vec<u8>) {
        if self.frame_at.is_some_and(|at| out.len() - at >= SPLIT) {
            self.flush(out);
        }
        if self.frame_at.is_none() {
            self.frame_at = Some(begin_frame(out, RECORDS));
        }
        self.count += 1;
        match change {
            ChangeRef::Route { vrf, prefix, label } => {
                self.route(
                    None,
                    vrf,
                    &prefix,
                    label.map(|label| Path { label, distance: 0, metric: 0 }),
                    out,
                );
            }
            ChangeRef::RibRoute { origin, vrf, prefix, path } => {
                self.route(Some(origin), vrf, &prefix, path, out);
            }
            other => {
                self.end_run(out);
                put_other(other, out);
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
        path: Option<Path>,
        out: &mut Vec<u8>,
    ) {
        let family = if prefix.addr().is_ipv4() { RUN_V4 } else { RUN_V6 };
        let tag = family | if origin.is_some() { RIB } else { 0 } | if path.is_none() { GONE } else { 0 };
        let (distance, metric) = path.map_or((0, 0), |path| (path.distance, path.metric));
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
        // A shift by 128 is that of the default route, whose address is always 0.
        let (now, before) =
            (bits.checked_shr(shift).unwrap_or(0), self.address.checked_shr(shift).unwrap_or(0));
        let label = path.map(|path| path.label);
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

fn put_other(change: ChangeRef<'_>, out: &mut Vec<u8>) {
    let tag = |value, gone, present: bool| if present { value } else { gone };
    match change {
        ChangeRef::Group { label, value } => {
            out.push(tag(GROUP, GROUP_GONE, value.is_some()));
            out.extend_from_slice(&label.0.to_be_bytes());
            if let Some(value) = value {
                put_group(value, out);
            }
        }
        ChangeRef::Origin { id, value } => {
            out.push(tag(ORIGIN, ORIGIN_GONE, value.is_some()));
            out.extend_from_slice(&id.0.to_be_bytes());
            if let Some(value) = value {
                put_text(out, &value.name, MAX_NAME);
                put_text(out, &value.server, MAX_NAME);
                out.extend_from_slice(&value.epoch.to_be_bytes());
                put_varint(out, value.sequence);
                out.push(u8::from(value.ready));
                put_varint(out, u64::from(value.lease_ms));
                out.push(u8::from(value.stale));
            }
        }
        ChangeRef::Opaque { key, value } => {
            out.push(tag(OPAQUE, OPAQUE_GONE, value.is_some()));
            put_blob(out, key);
            if let Some(value) = value {
                put_blob(out, value);
            }
        }
        // They are encoded in runs.
        ChangeRef::Route { .. } | ChangeRef::RibRoute { .. } => {}
    }
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
