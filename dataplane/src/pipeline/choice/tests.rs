//! The fast path and the exception path: the same verdict, bytes and counters for any burst, whatever groups its packets have.

use std::net::IpAddr;

use fibcast_fib::{
    AdjacencyState, Change, Fib, Generation, Group, GroupLabel, Limits, Member, NextHop, PortId, Special,
    VrfId,
};
use proptest::prelude::*;

use super::super::family_batch::FamilyBatch;
use super::super::headers::{self, SPARE};
use super::super::links::Links;
use super::super::martian::OwnSources;
use super::super::{fair_queue::FairQueue, forward as stage};
use super::*;
use crate::counters::WorkerCounters;
use crate::packet::checksum;
use crate::packet::ethernet::Mac;

const MAC: Mac = Mac([2, 0, 0, 0, 0, 9]);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Frame(Vec<u8>);

impl Packet for Frame {
    fn data(&self) -> &[u8] {
        &self.0
    }
    fn data_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
    fn length(&self) -> usize {
        self.0.len()
    }
    fn has_good_ipv4_checksum(&self) -> bool {
        false
    }
    fn truncate(&mut self, length: usize) -> bool {
        self.0.truncate(length);
        true
    }
    fn grow_front(&mut self, _: usize) -> bool {
        false
    }
    fn trim_front(&mut self, _: usize) -> bool {
        false
    }
}

fn gateway(number: u8, sixth: bool) -> IpAddr {
    if sixth {
        IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(number)])
    } else {
        IpAddr::from([192, 0, 2, number])
    }
}

/// Port, MTU and state of a next hop differ by its number.
fn adjacency(number: u8) -> Adjacency {
    Adjacency {
        port: PortId(u16::from(number % 4)),
        state: if number % 5 == 4 { AdjacencyState::Incomplete } else { AdjacencyState::Reachable },
        header: [number; 12],
        mtu: if number % 3 == 2 { 300 } else { 1_500 },
    }
}

/// A prefix of each family for each kind of group: the third byte, or the third word, is its number.
fn table() -> Fib {
    let mut fib = Fib::new(Limits::default());
    let via = |number: u8, sixth| NextHop::via(gateway(number, sixth));
    let several = |numbers: &[u8], sixth| {
        let member =
            |&number: &u8| Member { next_hop: via(number, sixth), weight: 1 + u16::from(number % 2) };
        Group::hops(numbers.iter().map(member).collect()).unwrap()
    };
    let mut changes = Vec::new();
    for sixth in [false, true] {
        let groups = [
            Group::one(via(1, sixth)).unwrap(),
            Group::one(via(4, sixth)).unwrap(),
            several(&[1, 2, 3, 6], sixth),
            several(&[4, 1], sixth),
            several(&[4, 9], sixth),
            several(&[2, 5, 7, 8, 10, 11], sixth),
            Group::one(NextHop { gateway: None, port: Some(PortId(2)) }).unwrap(),
            Group::Special(Special::Blackhole),
            Group::Special(Special::Unreachable),
            Group::Special(Special::Local),
        ];
        for (number, group) in (0_u16..).zip(groups) {
            let label = GroupLabel(u64::from(number) * 2 + u64::from(sixth) + 1);
            let prefix =
                if sixth { format!("2a00:0:{number:x}::/48") } else { format!("10.0.{number}.0/24") };
            changes.push(Change::PutGroup { label, group });
            changes.push(Change::Announce { vrf: VrfId::DEFAULT, prefix: prefix.parse().unwrap(), label });
        }
    }
    fib.apply(&changes, 1).unwrap();
    for sixth in [false, true] {
        for number in 1..=11 {
            fib.set_adjacency(via(number, sixth), adjacency(number));
        }
        for number in 0..8_u8 {
            fib.set_neighbor(PortId(2), host(6, number, sixth), adjacency(number)).unwrap();
        }
    }
    fib
}

fn host(group: u8, number: u8, sixth: bool) -> IpAddr {
    if sixth {
        IpAddr::from([0x2a00, 0, u16::from(group), 0, 0, 0, 0, u16::from(number)])
    } else {
        IpAddr::from([10, 0, group, number])
    }
}

/// What is not the rule about a packet.
#[derive(Debug, Clone, Copy, Default)]
struct Shape {
    ttl: u8,
    payload: u16,
    /// Bytes after its end.
    behind: usize,
    /// Flags and offset of IPv4.
    fragment: u16,
    /// Words of options of IPv4.
    options: u8,
    protocol: u8,
}

fn of(to: IpAddr, port: u16, shape: Shape) -> Frame {
    let Shape { ttl, payload, behind, fragment, options, protocol } = shape;
    let mut bytes = [&MAC.0[..], &[2, 0, 0, 0, 0, 1]].concat();
    match to {
        IpAddr::V4(to) => {
            let header = 20 + u16::from(options) * 4;
            let total = (header + payload).to_be_bytes();
            let mut ip = vec![0x45 + options, 0, total[0], total[1], 0, 1];
            ip.extend((fragment & 0x4fff).to_be_bytes());
            ip.extend([ttl, protocol, 0, 0, 198, 51, 100, 7]);
            ip.extend(to.octets());
            ip.resize(header.into(), 1);
            let field = checksum::checksum(&ip);
            ip[10..12].copy_from_slice(&field.to_be_bytes());
            bytes.extend([8, 0]);
            bytes.extend(ip);
        }
        IpAddr::V6(to) => {
            let [high, low] = payload.to_be_bytes();
            bytes.extend([0x86, 0xdd, 0x60, 0, 0, options, high, low, protocol, ttl]);
            bytes.extend([0x2a, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
            bytes.extend(to.octets());
        }
    }
    bytes.extend(port.to_be_bytes());
    bytes.resize(bytes.len() + usize::from(payload) - 2 + behind, 0x5a);
    Frame(bytes)
}

/// A packet that may be plain, or short of time to live, too long for a link, with options, a fragment, or with bytes behind its end.
fn frame() -> impl Strategy<Value = Frame> {
    let seldom = |rule, other: std::ops::Range<u16>| prop_oneof![6 => Just(rule), 1 => other];
    let shape = (seldom(64, 0..4), 8_u16..600, seldom(0, 1..80), seldom(0, 0..u16::MAX), seldom(0, 1..3));
    let protocol = prop_oneof![Just(17_u8), Just(6), any::<u8>()];
    let to = (any::<bool>(), 0_u8..12, 0_u8..10);
    (to, any::<u16>(), shape, protocol).prop_map(|((sixth, group, number), port, shape, protocol)| {
        let (ttl, payload, behind, fragment, options) = shape;
        let (ttl, options, behind) = (ttl as u8, options as u8, behind.into());
        of(host(group, number, sixth), port, Shape { ttl, payload, behind, fragment, options, protocol })
    })
}

/// What became of a burst: verdicts, frames, packets and bytes of each group.
type Seen = (Vec<Verdict>, Vec<Frame>, Vec<Option<(u64, u64)>>);

/// Also which packets the fast path has sent.
fn run(burst: &[Frame], generation: &Generation, down: &Links, quickly: bool) -> (Seen, PacketMask) {
    let mut burst = burst.to_vec();
    let (mut headers, mut spare) = (Headers::default(), SPARE);
    let (mut v4, mut v6) = (FamilyBatch::default(), FamilyBatch::default());
    let own = OwnSources::new(&[]);
    let (count, counters, misses) = (burst.len(), WorkerCounters::new(1), FairQueue::new(64));
    let heads = headers.gather::<_, false>(&mut burst, &mut spare);
    let good = headers.validate::<false>(&heads, count, MAC, own.filter());
    headers.add_to(good, &heads, count, &mut v4, &mut v6);
    v4.look_up(generation, VrfId::DEFAULT, false, |_| VrfId::DEFAULT);
    v6.look_up(generation, VrfId::DEFAULT, false, |_| VrfId::DEFAULT);
    let mut groups = [GroupIndex::NO_ROUTE; BURST];
    v4.spread_groups(&mut groups);
    v6.spread_groups(&mut groups);
    let context = ForwardingContext {
        generation,
        ports: &[],
        seed: 7,
        misses: Some(&misses),
        counters: &counters,
        down: down.if_any_down(),
        own_sources: &own,
        arrived: &[0; BURST],
    };
    let mut verdicts = Verdicts::default();
    let all = headers::first_of(count) & (good.v4 | good.v6);
    let mut left = all;
    if quickly {
        forward(&mut burst, left, &headers, &groups, context, &mut verdicts);
        left &= !verdicts.sent();
    }
    let sent = all & !left;
    stage::ipv4(&mut burst, left, context, &v4, &mut verdicts);
    stage::ipv6(&mut burst, left, context, &v6, &mut verdicts);
    let of_group = |index: u32| counters.of_group(index).map(|of| (of.packets, of.bytes));
    let said = each(all).map(|at| verdicts.of(at)).collect();
    ((said, burst, (0..32).map(of_group).collect()), sent)
}

proptest! {
    #[test]
    fn the_fast_path_does_what_the_exception_path_does(
        burst in prop::collection::vec(frame(), 1..=BURST),
        down in prop::option::of(0_u16..4),
    ) {
        let mut fib = table();
        let links = Links::default();
        if let Some(port) = down {
            links.set(port, false);
        }
        let generation = fib.generation();
        let (quick, slow) = (run(&burst, &generation, &links, true), run(&burst, &generation, &links, false));
        prop_assert_eq!(quick.0, slow.0);
    }
}

/// Else the property would say nothing: of these groups no plain packet needs the exception path.
#[test]
fn plain_packets_with_several_next_hops_or_a_known_neighbor_are_forwarded_quickly() {
    let mut fib = table();
    let generation = fib.generation();
    let plain = (any::<bool>(), prop_oneof![Just(2_u8), Just(6)], any::<u16>());
    proptest!(|((sixth, group, port) in plain)| {
        let frame = of(host(group, 1, sixth), port, Shape { ttl: 64, payload: 20, ..Shape::default() });
        let (_, sent) = run(&[frame], &generation, &Links::default(), true);
        prop_assert_eq!(sent, 1);
    });
}
