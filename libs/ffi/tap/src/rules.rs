//! Policy rules (ip-rule(8)): what is sent from an address of a port asks a table of ours. They outlive the process that made them, so
//! the next one looks for what was left.
//!
//! A rule belongs to a process at work as long as its address is on an interface that such a process made. [`setup::apply`] adds the
//! address before the rule, an orderly end removes the rule before the interface, and the interface goes away with its process however that
//! ends. So [`clear`] may remove a rule of ours whose address is on none of these interfaces, whichever process made it, and never one of
//! another process at work.
//!
//! [`setup::apply`]: crate::setup::apply

use std::collections::HashSet;
use std::ffi::CStr;
use std::io;
use std::net::IpAddr;
use std::ops::Range;

use fibcast_netlink::{Attributes, Message, kind};

use crate::netlink::Kernel;
use crate::setup::{PROTOCOL, Setup, family};

/// linux/fib_rules.h, linux/rtnetlink.h.
const FRA_SRC: u16 = 2;
const FRA_PRIORITY: u16 = 6;
const FRA_SUPPRESS_PREFIXLEN: u16 = 14;
const FRA_TABLE: u16 = 15;
const FRA_PROTOCOL: u16 = 21;
const FR_ACT_TO_TBL: u8 = 1;
const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;
const RTM_GETRULE: u16 = 34;
const RTM_GETADDR: u16 = 22;

/// Priority of all rules: before those that get theirs from the kernel (32765 and below), with room in front for an operator's. A fixed
/// one, because the kernel takes two rules that differ in it alone for two.
const PRIORITY: u32 = 7_830;

/// A rule of the shape that this crate makes: from one address into a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rule {
    source: IpAddr,
    table: u32,
    priority: u32,
    protocol: u8,
}

pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

impl Rule {
    pub(crate) fn new(source: IpAddr, table: u32) -> Rule {
        Rule { source, table, priority: PRIORITY, protocol: PROTOCOL }
    }

    pub(crate) fn add(&self, kernel: &mut Kernel) -> io::Result<()> {
        self.tell(kernel, RTM_NEWRULE, fibcast_netlink::flag::CREATE | fibcast_netlink::flag::EXCLUSIVE)
    }

    pub(crate) fn delete(&self, kernel: &mut Kernel) -> io::Result<()> {
        self.tell(kernel, RTM_DELRULE, 0)
    }

    fn tell(&self, kernel: &mut Kernel, kind: u16, flags: u16) -> io::Result<()> {
        let source = octets(self.source);
        // struct fib_rule_hdr.
        let mut header = [0; 12];
        header[0] = family(self.source);
        header[2] = (source.len() * 8) as u8;
        header[7] = FR_ACT_TO_TBL;
        let (table, priority) = (self.table.to_ne_bytes(), self.priority.to_ne_bytes());
        let attributes = [
            (FRA_SRC, source.as_slice()),
            (FRA_TABLE, &table),
            (FRA_PRIORITY, &priority),
            (FRA_PROTOCOL, &[self.protocol]),
        ];
        kernel.ask(kind, flags, &header, &attributes)
    }

    /// A rule of the kernel's; none where it is of another shape, and so not one that fibcast made.
    fn read(message: &Message<'_>) -> Option<Rule> {
        let (header, attributes) = message.body.split_at_checked(12)?;
        let &[_, destination, length, tos, _, _, _, action, ..] = header else { return None };
        if (destination, tos, action) != (0, 0, FR_ACT_TO_TBL) {
            return None;
        }
        let (mut source, mut table, mut priority, mut protocol) = (None, None, 0, 0);
        for attribute in Attributes::new(attributes, 0) {
            let attribute = attribute.ok()?;
            match attribute.kind {
                FRA_SRC => source = attribute.address().ok(),
                FRA_TABLE => table = attribute.number().ok(),
                FRA_PRIORITY => priority = attribute.number().ok()?,
                FRA_PROTOCOL => protocol = attribute.value.first().copied()?,
                // Told of every rule: all ones where it is not in use.
                FRA_SUPPRESS_PREFIXLEN if attribute.number() == Ok(u32::MAX) => {}
                _ => return None,
            }
        }
        let source = source.filter(|source| usize::from(length) == octets(*source).len() * 8)?;
        Some(Rule { source, table: table?, priority, protocol })
    }
}

/// Addresses of this host.
#[derive(Debug, Default)]
struct Addresses {
    /// On interfaces that a process like this one made.
    at_work: HashSet<IpAddr>,
    /// On any other interface.
    others: HashSet<IpAddr>,
}

/// Which of the rules that are there were left by a process that is no more, by the addresses that there are and what is wanted.
fn leftovers(found: &[Rule], tables: &Range<u32>, addresses: &Addresses, wanted: &[Rule]) -> Vec<Rule> {
    // Versions before the mark said no protocol, and an operator may say none. So a rule without is only taken for ours in a table that is
    // in use, where its address is to be ours, or is nowhere on this host, so that the rule is of no use to anybody.
    let in_use = |table| table == tables.start || wanted.iter().any(|rule| rule.table == table);
    let to_be_ours = |source| wanted.iter().any(|rule| rule.source == source);
    let ours = |rule: &Rule| match rule.protocol {
        PROTOCOL => tables.contains(&rule.table),
        0 => in_use(rule.table) && (to_be_ours(rule.source) || !addresses.others.contains(&rule.source)),
        _ => false,
    };
    let dead =
        |rule: &&Rule| ours(rule) && !addresses.at_work.contains(&rule.source) && !wanted.contains(rule);
    found.iter().filter(dead).copied().collect()
}

/// Removes the rules into `tables` that a process left which could not end in order, and says how many. `prefix` is how the names of the
/// interfaces begin that such processes make; rules that `wanted` asks for stay, to be taken over. Call it before [`setup::apply`].
///
/// [`setup::apply`]: crate::setup::apply
pub fn clear(tables: &Range<u32>, prefix: &str, wanted: &[&Setup]) -> io::Result<usize> {
    let mut kernel = Kernel::open()?;
    // Rules before addresses: of a process that starts meanwhile both are seen, or the address alone.
    let mut found = Vec::new();
    for family in [libc::AF_INET as u8, libc::AF_INET6 as u8] {
        let mut header = [0; 12];
        header[0] = family;
        match kernel.dump(RTM_GETRULE, &header, Rule::read) {
            Ok(rules) => found.extend(rules),
            // A kernel without IPv6 has none of its rules.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
            Err(error) => return Err(error),
        }
    }
    let mut addresses = Addresses::default();
    for (index, address) in kernel.dump(RTM_GETADDR, &[0; 8], address)? {
        let ours = name_of(index).starts_with(prefix);
        if ours { &mut addresses.at_work } else { &mut addresses.others }.insert(address);
    }
    let wanted: Vec<Rule> = wanted.iter().flat_map(|setup| setup.rules()).collect();
    let leftovers = leftovers(&found, tables, &addresses, &wanted);
    for rule in &leftovers {
        match rule.delete(&mut kernel) {
            // Another process that starts may have been faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    Ok(leftovers.len())
}

/// Index of the interface, and the address (`struct ifaddrmsg`).
fn address(message: &Message<'_>) -> Option<(u32, IpAddr)> {
    let (header, attributes) = message.body.split_at_checked(8)?;
    let index = header.last_chunk::<4>().copied().map(u32::from_ne_bytes)?;
    if message.kind != kind::NEW_ADDRESS {
        return None;
    }
    let all = || Attributes::new(attributes, 0).flatten();
    // IPv6 has IFA_ADDRESS alone; of IPv4 that is the peer where there is one.
    let own =
        all().find(|a| a.kind == libc::IFA_LOCAL).or_else(|| all().find(|a| a.kind == libc::IFA_ADDRESS));
    Some((index, own?.address().ok()?))
}

/// The name of an interface; empty where it is gone.
fn name_of(index: u32) -> String {
    let mut room = [0; libc::IFNAMSIZ];
    // SAFETY: the room is as large as a name may be, its end included.
    let name = unsafe { libc::if_indextoname(index, room.as_mut_ptr()) };
    if name.is_null() {
        return String::new();
    }
    // SAFETY: the call has written a NUL-terminated name into the room.
    unsafe { CStr::from_ptr(room.as_ptr()) }.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn rule(source: &str, table: u32, priority: u32, protocol: u8) -> Rule {
        Rule { source: source.parse().unwrap(), table, priority, protocol }
    }

    fn left(found: &[Rule], at_work: &[&str], wanted: &[Rule]) -> Vec<Rule> {
        let at_work = at_work.iter().map(|address| address.parse().unwrap()).collect();
        let others = HashSet::from(["127.0.0.1".parse().unwrap(), "10.0.5.1".parse().unwrap()]);
        leftovers(found, &(7_830..8_854), &Addresses { at_work, others }, wanted)
    }

    #[test]
    fn a_rule_whose_address_is_on_no_interface_at_work_is_a_leftover() {
        let found = [rule("10.0.0.1", 7_830, 7_830, PROTOCOL), rule("10.0.1.1", 7_837, 7_830, PROTOCOL)];
        assert_eq!(left(&found, &["10.0.1.1"], &[]), [found[0]]);
        assert_eq!(left(&found, &[], &[]), found);
    }

    #[test]
    fn rules_without_a_mark_are_those_of_earlier_versions() {
        let old = rule("2001:db8::1", 7_830, 32_764, 0);
        let wanted = Rule::new(old.source, 7_830);
        assert_eq!(left(&[old, old], &[], &[wanted]), [old, old], "not as wanted: removed, and added anew");
    }

    #[test]
    fn what_is_wanted_as_it_is_stays() {
        let wanted = Rule::new("10.0.0.1".parse().unwrap(), 7_830);
        assert_eq!(left(&[wanted], &[], &[wanted]), []);
    }

    #[test]
    fn an_operators_rules_and_those_of_other_tables_stay() {
        let boot = 3;
        let found = [
            rule("10.0.0.1", 7_830, 7_830, boot),
            rule("10.0.0.1", 200, 7_830, PROTOCOL),
            rule("10.0.5.1", 7_830, 32_765, 0),
            rule("10.0.0.1", 8_000, 32_765, 0),
        ];
        assert_eq!(left(&found, &[], &[]), []);
        let wanted = Rule::new(found[2].source, 7_830);
        assert_eq!(left(&found, &[], &[wanted]), [found[2]], "about to be ours");
    }

    #[test]
    fn a_rule_with_a_condition_more_is_not_ours() {
        const FRA_FWMARK: u16 = 10;
        let body = |more: &[u8]| {
            let mut body = vec![libc::AF_INET as u8, 0, 32, 0, 0, 0, 0, FR_ACT_TO_TBL, 0, 0, 0, 0];
            for (kind, value) in [(FRA_SRC, [10, 0, 0, 1]), (FRA_TABLE, 7_830u32.to_ne_bytes())] {
                body.extend([8, 0, kind as u8, 0]);
                body.extend(value);
            }
            body.extend(more);
            body
        };
        let read =
            |body: &[u8]| Rule::read(&Message { at: 0, kind: RTM_NEWRULE, flags: 0, sequence: 1, body });
        assert_eq!(read(&body(&[])), Some(rule("10.0.0.1", 7_830, 0, 0)));
        assert_eq!(read(&body(&[8, 0, FRA_FWMARK as u8, 0, 1, 0, 0, 0])), None);
    }
}
