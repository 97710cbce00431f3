//! Policy rules (ip-rule(8)): traffic from a port's addresses uses our routing table. Rules outlive the process that created them, so the
//! next one removes what was left.
//!
//! A rule belongs to a running process as long as its address is on an interface that such a process created. [`setup::apply`] adds the
//! address before the rule, an orderly exit removes the rule before the interface, and the interface disappears with its process in any
//! case. So [`clear`] may remove one of our rules whose address is on none of these interfaces, whichever process created it, but never one
//! of another running process.
//!
//! [`setup::apply`]: crate::setup::apply

use std::collections::HashSet;
use std::ffi::CStr;
use std::io;
use std::net::IpAddr;
use std::ops::Range;

use fibcast_netlink::{Address, Family, PROTOCOL, Rule, kind};

use crate::netlink::Kernel;
use crate::setup::Setup;

/// Priority of all rules: before those that the kernel numbers itself (32765 and below), with room before for an operator's. It is fixed,
/// because the kernel treats two rules that differ only in priority as different.
const PRIORITY: u32 = 7_830;

/// A rule as fibcast makes it.
pub(crate) fn rule_for(source: IpAddr, table: u32) -> Rule {
    Rule { source, table, priority: PRIORITY, protocol: PROTOCOL }
}

pub(crate) fn delete(rule: &Rule, kernel: &mut Kernel) -> io::Result<()> {
    kernel.ask(|writer, sequence| rule.write(writer, kind::DEL_RULE, 0, sequence))
}

/// Addresses of this host.
#[derive(Debug, Default)]
struct Addresses {
    /// On interfaces created by a process like this one.
    at_work: HashSet<IpAddr>,
    /// On any other interface.
    others: HashSet<IpAddr>,
}

/// The existing rules that a terminated process left, judged by the existing addresses and the wanted rules.
fn leftovers(found: &[Rule], tables: &Range<u32>, addresses: &Addresses, wanted: &[Rule]) -> Vec<Rule> {
    // Older versions did not set a protocol, and an operator may not set one. A rule without protocol is only removed if its table is in
    // use and its address is to be ours, or is nowhere on this host, so that the rule has no effect.
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

/// Removes the rules into `tables` that a killed process left, and returns their number. `prefix` is the name prefix of the interfaces that
/// such processes create. Rules that `wanted` needs stay. Call it before [`setup::apply`].
///
/// [`setup::apply`]: crate::setup::apply
///
/// # Errors
/// The system's error, for instance without CAP_NET_ADMIN.
pub fn clear(tables: &Range<u32>, prefix: &str, wanted: &[&Setup]) -> io::Result<usize> {
    let mut kernel = Kernel::open()?;
    // Rules before addresses: of a process that starts in between, both are seen or only the address.
    let mut found = Vec::new();
    for family in [Family::Ipv4, Family::Ipv6] {
        match kernel.dump(|writer, sequence| Rule::dump(writer, sequence, family), Rule::read) {
            Ok(rules) => found.extend(rules),
            // A kernel without IPv6 has no IPv6 rules.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
            Err(error) => return Err(error),
        }
    }
    let mut addresses = Addresses::default();
    for found in kernel.dump(Address::dump, Address::read)? {
        let ours = name_of(found.interface).starts_with(prefix);
        if ours { &mut addresses.at_work } else { &mut addresses.others }.insert(found.address.addr());
    }
    let wanted: Vec<Rule> = wanted.iter().flat_map(|setup| setup.rules()).collect();
    let leftovers = leftovers(&found, tables, &addresses, &wanted);
    for rule in &leftovers {
        match delete(rule, &mut kernel) {
            // Another process that starts may have been faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    Ok(leftovers.len())
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
        let wanted = rule_for(old.source, 7_830);
        assert_eq!(left(&[old, old], &[], &[wanted]), [old, old], "not as wanted: removed, and added again");
    }

    #[test]
    fn what_is_wanted_as_it_is_stays() {
        let wanted = rule_for("10.0.0.1".parse().unwrap(), 7_830);
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
        let wanted = rule_for(found[2].source, 7_830);
        assert_eq!(left(&found, &[], &[wanted]), [found[2]], "about to be ours");
    }
}
