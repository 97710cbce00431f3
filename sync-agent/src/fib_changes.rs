//! Translates records of the forwarding table into changes for `fibcast_fib::Fib::apply`.

use fibcast_fib as fib;
use fibcast_sync_proto::{ChangeRef, GroupValue, HopValue, Label};

/// What this host cannot use of a group. The routes of the group are kept, by its other next hops or with a group of kind unreachable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TranslateError {
    /// A next hop names a port that does not exist here.
    #[error("group {label}: next hop's port {port} does not exist on this host")]
    UnknownPort {
        /// Label of the group.
        label: Label,
        /// Name of the port.
        port: String,
    },
    /// The forwarding table refuses the group.
    #[error("group {label}: {source}")]
    Group {
        /// Label of the group.
        label: Label,
        /// Its reason.
        source: fib::GroupError,
    },
}

/// Translates one change; none for records that are not part of the forwarding table. `port` finds a port by name.
///
/// A next hop on a port that does not exist here is left out, as one whose link is down. A group without any other becomes `unreachable`: its
/// routes stay, as on the server, and their packets are answered instead of following a less specific route. Both are reported through
/// `problem`. A next hop is a gateway with its port: one gateway on two ports is two next hops.
pub fn translate(
    change: ChangeRef<'_>,
    port: &dyn Fn(&str) -> Option<fib::PortId>,
    problem: &mut dyn FnMut(TranslateError),
) -> Option<fib::Change> {
    Some(match change {
        ChangeRef::Group { label, value: Some(value) } => {
            let group = group(label, value, port, problem).unwrap_or_else(|error| {
                problem(error);
                fib::Group::Special(fib::Special::Unreachable)
            });
            fib::Change::PutGroup { label: fib::GroupLabel(label.0), group }
        }
        ChangeRef::Group { label, value: None } => {
            fib::Change::DeleteGroup { label: fib::GroupLabel(label.0) }
        }
        ChangeRef::Route { vrf, prefix, label: Some(label) } => {
            fib::Change::Announce { vrf: fib::VrfId(vrf), prefix, label: fib::GroupLabel(label.0) }
        }
        ChangeRef::Route { vrf, prefix, label: None } => {
            fib::Change::Withdraw { vrf: fib::VrfId(vrf), prefix }
        }
        ChangeRef::RibRoute { .. } | ChangeRef::Origin { .. } | ChangeRef::Opaque { .. } => return None,
    })
}

fn group(
    label: Label,
    value: &GroupValue,
    port: &dyn Fn(&str) -> Option<fib::PortId>,
    problem: &mut dyn FnMut(TranslateError),
) -> Result<fib::Group, TranslateError> {
    let hops = match value {
        GroupValue::Blackhole => return Ok(fib::Group::Special(fib::Special::Blackhole)),
        GroupValue::Unreachable => return Ok(fib::Group::Special(fib::Special::Unreachable)),
        GroupValue::Prohibit => return Ok(fib::Group::Special(fib::Special::Prohibit)),
        GroupValue::Local => return Ok(fib::Group::Special(fib::Special::Local)),
        GroupValue::Hops(hops) => hops,
    };
    let mut members = Vec::with_capacity(hops.len());
    let mut left_out = None;
    for hop in hops {
        match member(label, hop, port) {
            Ok(member) => members.push(member),
            Err(error) => left_out = left_out.or(Some(error)),
        }
    }
    if let Some(error) = left_out {
        if members.is_empty() {
            return Err(error);
        }
        problem(error);
    }
    fib::Group::hops(members).map_err(|source| TranslateError::Group { label, source })
}

fn member(
    label: Label,
    hop: &HopValue,
    port: &dyn Fn(&str) -> Option<fib::PortId>,
) -> Result<fib::Member, TranslateError> {
    let port = match hop.port.as_deref() {
        None => None,
        Some(name) => {
            Some(port(name).ok_or_else(|| TranslateError::UnknownPort { label, port: name.into() })?)
        }
    };
    Ok(fib::Member { next_hop: fib::NextHop { gateway: hop.gateway, port }, weight: hop.weight })
}

#[cfg(test)]
mod tests {
    use super::*;
    use fibcast_sync_proto::{Change, Key, Value};

    fn one(change: &Change) -> (Option<fib::Change>, Vec<String>) {
        let mut problems = Vec::new();
        let port = |name: &str| (name == "p0").then_some(fib::PortId(7));
        let out = translate(change.view().unwrap(), &port, &mut |e| problems.push(e.to_string()));
        (out, problems)
    }

    fn via(port: &str) -> Change {
        let hop = HopValue { gateway: None, port: Some(port.into()), weight: 2 };
        Change::Put(Key::Group(Label(5)), Value::Group(GroupValue::Hops(vec![hop])))
    }

    #[test]
    fn ports_are_found_by_name() {
        let (change, problems) = one(&via("p0"));
        let member = fib::Member { next_hop: fib::NextHop::connected(fib::PortId(7)), weight: 2 };
        let group = fib::Group::hops(vec![member]).unwrap();
        assert_eq!(change, Some(fib::Change::PutGroup { label: fib::GroupLabel(5), group }));
        assert!(problems.is_empty());
    }

    #[test]
    fn group_on_an_unknown_port_becomes_unreachable_and_is_reported() {
        let (change, problems) = one(&via("p9"));
        let group = fib::Group::Special(fib::Special::Unreachable);
        assert_eq!(change, Some(fib::Change::PutGroup { label: fib::GroupLabel(5), group }));
        assert_eq!(problems, ["group 0000000000000005: next hop's port p9 does not exist on this host"]);
    }

    #[test]
    fn a_next_hop_on_an_unknown_port_leaves_the_others_and_is_reported_once() {
        let hop =
            |port: &str| HopValue { gateway: Some([3, 3, 3, 3].into()), port: Some(port.into()), weight: 1 };
        let hops = GroupValue::Hops(vec![hop("p0"), hop("p8"), hop("p9")]);
        let (change, problems) = one(&Change::Put(Key::Group(Label(5)), Value::Group(hops)));
        let next_hop = fib::NextHop { gateway: Some([3, 3, 3, 3].into()), port: Some(fib::PortId(7)) };
        let group = fib::Group::one(next_hop).unwrap();
        assert_eq!(change, Some(fib::Change::PutGroup { label: fib::GroupLabel(5), group }));
        assert_eq!(problems, ["group 0000000000000005: next hop's port p8 does not exist on this host"]);
    }

    #[test]
    fn one_gateway_on_two_ports_is_two_next_hops() {
        let hop =
            |port: &str| HopValue { gateway: Some([3, 3, 3, 3].into()), port: Some(port.into()), weight: 1 };
        let value = GroupValue::Hops(vec![hop("p1"), hop("p2")]);
        let change = Change::Put(Key::Group(Label(5)), Value::Group(value));
        let port = |name: &str| name.strip_prefix('p')?.parse().ok().map(fib::PortId);
        let Some(fib::Change::PutGroup { group, .. }) =
            translate(change.view().unwrap(), &port, &mut |error| panic!("{error}"))
        else {
            panic!("expected a group");
        };
        let found: Vec<_> = group.members().iter().map(|m| (m.next_hop.port, m.weight)).collect();
        assert_eq!(found, [(Some(fib::PortId(1)), 1), (Some(fib::PortId(2)), 1)]);
    }

    #[test]
    fn records_of_other_kinds_are_left_out() {
        assert_eq!(one(&Change::Delete(Key::Opaque(Box::from([1u8])))), (None, Vec::new()));
    }
}
