//! Answers to zebra: the routes that all required hosts forward by, so that bgpd announces them (`bgp suppress-fib-pending`).
//!
//! An answer is zebra's own message with `RTM_F_OFFLOAD`, or `RTM_F_OFFLOAD_FAILED`, in `rtm_flags`, one message in each frame
//! (`fpm_read` in zebra/dplane_fpm_nl.c). zebra compares the next hops with its own and marks those that differ as not installed
//! (`rib_update_re_from_ctx` in zebra/zebra_rib.c), so the message must be the same as it sent. The bytes besides the prefix are stored once for
//! all routes that share them.
//!
//! A route that zebra sends again with the same next hops is answered at once, because the owner of the RIB sees no change: after a new
//! connection, and when a protocol replaces its route by an equal one. A changed route is no longer acknowledged.

use std::collections::VecDeque;

use hashbrown::HashMap;
use ipnet::IpNet;

use crate::source::mirror::{V4, V6};
use fibcast_netlink::kind;

/// `RTM_F_OFFLOAD`: the route is offloaded.
const OFFLOAD: u32 = 0x4000;
/// `RTM_F_OFFLOAD_FAILED`: it could not be.
const OFFLOAD_FAILED: u32 = 0x2000_0000;
/// `NLM_F_REQUEST`: without it zebra skips a message.
const REQUEST: u16 = 1;
/// Bytes of `struct nlmsghdr`, and of `struct rtmsg`.
const HEADER: usize = 16;
const RTMSG: usize = 12;
/// Attribute `RTA_DST`.
const DST: u16 = 1;

/// The state of a route in four bytes: a full table has a million.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry(u32);

impl Entry {
    /// It is installed.
    const INSTALLED: u32 = 1 << 31;
    /// It is overdue.
    const FAILED: u32 = 1 << 30;
    /// An answer is queued.
    const QUEUED: u32 = 1 << 29;
    /// zebra has not sent it since it connected.
    const UNHEARD: u32 = 1 << 28;
    const TEMPLATE: u32 = Self::UNHEARD - 1;

    fn has(self, bits: u32) -> bool {
        self.0 & bits != 0
    }

    fn template(self) -> u32 {
        self.0 & Self::TEMPLATE
    }
}

/// Messages without their prefix, shared and counted.
#[derive(Debug, Default)]
struct Templates {
    index: HashMap<Box<[u8]>, u32>,
    slots: Vec<(Box<[u8]>, u32)>,
    free: Vec<u32>,
}

impl Templates {
    fn take(&mut self, bytes: &[u8]) -> u32 {
        if let Some(&id) = self.index.get(bytes) {
            if let Some((_, users)) = self.slots.get_mut(id as usize) {
                *users += 1;
            }
            return id;
        }
        let slot = (bytes.into(), 1);
        let id = match self.free.pop() {
            Some(id) => {
                if let Some(place) = self.slots.get_mut(id as usize) {
                    *place = slot;
                }
                id
            }
            None => {
                self.slots.push(slot);
                (self.slots.len() - 1) as u32
            }
        };
        self.index.insert(bytes.into(), id);
        id
    }

    fn give_back(&mut self, id: u32) {
        let Some((bytes, users)) = self.slots.get_mut(id as usize) else { return };
        *users -= 1;
        if *users == 0 {
            self.index.remove(&std::mem::take(bytes));
            self.free.push(id);
        }
    }

    fn get(&self, id: u32) -> &[u8] {
        self.slots.get(id as usize).map_or(&[], |(bytes, _)| bytes)
    }
}

/// What zebra sent of each route, and what it is to be answered.
#[derive(Debug, Default)]
pub struct Echo {
    v4: HashMap<V4, Entry>,
    v6: HashMap<V6, Entry>,
    templates: Templates,
    /// Routes to answer; each at most once.
    queue: VecDeque<(u32, IpNet)>,
    /// Bytes of the template of the current message.
    scratch: Vec<u8>,
    installed: u64,
    failed: u64,
}

impl Echo {
    /// zebra starts over: it has forgotten the answers.
    pub fn begin(&mut self) {
        self.queue.clear();
        for entry in self.v4.values_mut().chain(self.v6.values_mut()) {
            entry.0 = (entry.0 | Entry::UNHEARD) & !Entry::QUEUED;
        }
    }

    /// zebra sent a route; `body` is its message. `same`: the RIB sees no change.
    pub fn heard(&mut self, vrf: u32, prefix: IpNet, body: &[u8], same: bool) {
        strip(body, &mut self.scratch);
        let id = self.templates.take(&self.scratch);
        let before = self.entry(vrf, prefix).map(|entry| *entry);
        let mut state = before.map_or(0, |entry| entry.0 & !(Entry::TEMPLATE | Entry::UNHEARD));
        if !same {
            state &= !(Entry::INSTALLED | Entry::FAILED);
        }
        match prefix {
            IpNet::V4(prefix) => self.v4.insert(V4::pack(vrf, prefix), Entry(state | id)),
            IpNet::V6(prefix) => self.v6.insert(V6::pack(vrf, prefix), Entry(state | id)),
        };
        if let Some(before) = before {
            self.templates.give_back(before.template());
        }
        self.enqueue(vrf, prefix);
    }

    /// A route is gone.
    pub fn gone(&mut self, vrf: u32, prefix: IpNet) {
        let entry = match prefix {
            IpNet::V4(prefix) => self.v4.remove(&V4::pack(vrf, prefix)),
            IpNet::V6(prefix) => self.v6.remove(&V6::pack(vrf, prefix)),
        };
        if let Some(entry) = entry {
            self.templates.give_back(entry.template());
        }
    }

    /// The RIB is told that a route has changed.
    pub fn changed(&mut self, vrf: u32, prefix: IpNet) {
        if let Some(entry) = self.entry(vrf, prefix) {
            entry.0 &= !(Entry::INSTALLED | Entry::FAILED);
        }
    }

    /// All required hosts forward by a route, or do not within the time limit.
    pub fn acknowledge(&mut self, vrf: u32, prefix: IpNet, failed: bool) {
        let Some(entry) = self.entry(vrf, prefix) else { return };
        let (set, clear) =
            if failed { (Entry::FAILED, Entry::INSTALLED) } else { (Entry::INSTALLED, Entry::FAILED) };
        entry.0 = (entry.0 | set) & !clear;
        self.enqueue(vrf, prefix);
    }

    /// Appends frames, until there are about `limit` bytes.
    pub fn answers(&mut self, out: &mut Vec<u8>, limit: usize) {
        while out.len() < limit {
            let Some((vrf, prefix)) = self.queue.pop_front() else { return };
            let Some(entry) = self.entry(vrf, prefix) else { continue };
            entry.0 &= !Entry::QUEUED;
            let entry = *entry;
            let flags = match entry {
                _ if entry.has(Entry::INSTALLED) => OFFLOAD,
                _ if entry.has(Entry::FAILED) => OFFLOAD_FAILED,
                // It has changed since.
                _ => continue,
            };
            *(if flags == OFFLOAD { &mut self.installed } else { &mut self.failed }) += 1;
            frame(self.templates.get(entry.template()), prefix, flags, out);
        }
    }

    /// Names and values for status and metrics.
    pub fn counters(&self) -> [(&'static str, u64); 3] {
        [
            ("acknowledged", self.installed),
            ("acknowledged_failed", self.failed),
            ("acknowledgements_waiting", self.queue.len() as u64),
        ]
    }

    fn entry(&mut self, vrf: u32, prefix: IpNet) -> Option<&mut Entry> {
        match prefix {
            IpNet::V4(prefix) => self.v4.get_mut(&V4::pack(vrf, prefix)),
            IpNet::V6(prefix) => self.v6.get_mut(&V6::pack(vrf, prefix)),
        }
    }

    /// Queues an answer, if one is due.
    fn enqueue(&mut self, vrf: u32, prefix: IpNet) {
        let Some(entry) = self.entry(vrf, prefix) else { return };
        if entry.has(Entry::INSTALLED | Entry::FAILED) && !entry.has(Entry::QUEUED | Entry::UNHEARD) {
            entry.0 |= Entry::QUEUED;
            self.queue.push_back((vrf, prefix));
        }
    }
}

/// The body of a route's message without its prefix.
fn strip(body: &[u8], out: &mut Vec<u8>) {
    out.clear();
    let (rtmsg, mut attributes) = body.split_at_checked(RTMSG).unwrap_or((body, &[]));
    out.extend_from_slice(rtmsg);
    if let Some(length) = out.get_mut(1) {
        *length = 0;
    }
    while let Some(&[a, b, c, d]) = attributes.first_chunk::<4>() {
        let (length, kind) = (usize::from(u16::from_ne_bytes([a, b])), u16::from_ne_bytes([c, d]));
        let step = length.max(4).next_multiple_of(4).min(attributes.len());
        let (attribute, rest) = attributes.split_at(step);
        if kind != DST {
            out.extend_from_slice(attribute);
        }
        attributes = rest;
    }
    out.resize(out.len().next_multiple_of(4), 0);
}

/// Appends a frame with one message.
fn frame(template: &[u8], prefix: IpNet, flags: u32, out: &mut Vec<u8>) {
    let (v4, v6);
    let address: &[u8] = match prefix.network() {
        std::net::IpAddr::V4(address) => {
            v4 = address.octets();
            &v4
        }
        std::net::IpAddr::V6(address) => {
            v6 = address.octets();
            &v6
        }
    };
    let length = HEADER + template.len() + 4 + address.len();
    let total = super::frame::HEADER + length;
    // What zebra sent fits into a frame, with its prefix.
    let Ok(short) = u16::try_from(total) else { return };
    let begin = out.len();
    out.extend_from_slice(&[1, 1]);
    out.extend_from_slice(&short.to_be_bytes());
    out.extend_from_slice(&(length as u32).to_ne_bytes());
    out.extend_from_slice(&kind::NEW_ROUTE.to_ne_bytes());
    out.extend_from_slice(&REQUEST.to_ne_bytes());
    out.extend_from_slice(&[0; 8]);
    let rtmsg = out.len();
    out.extend_from_slice(template);
    if let Some(bits) = out.get_mut(rtmsg + 1) {
        *bits = prefix.prefix_len();
    }
    if let Some(place) = out.get_mut(rtmsg + 8..rtmsg + RTMSG) {
        let before = u32::from_ne_bytes(place.try_into().unwrap_or_default());
        place.copy_from_slice(&(before & !(OFFLOAD | OFFLOAD_FAILED) | flags).to_ne_bytes());
    }
    out.extend_from_slice(&((4 + address.len()) as u16).to_ne_bytes());
    out.extend_from_slice(&DST.to_ne_bytes());
    out.extend_from_slice(address);
    debug_assert_eq!(out.len() - begin, total);
}

#[cfg(test)]
mod tests;
