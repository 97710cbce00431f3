//! Translates records of the forwarding table into changes for `fibcast_fib::Fib::apply`.

use fibcast_fib as fib;
use fibcast_sync_proto::{ChangeRef, GroupValue, HopValue, Label};

/// A group that this host cannot use as it is. Its routes are kept, with a group of kind unreachable.
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
/// A group that this host cannot use becomes `unreachable` and is reported through `problem`: its routes stay, as on the server, and their
/// packets are answered instead of following a less specific route.
pub fn translate(
    change: ChangeRef<'_>,
    port: &dyn Fn(&str) -> Option<fib::PortId>,
    problem: &mut dyn FnMut(TranslateError),
) -> Option<fib::Change> {
    Some(match change {
        ChangeRef::Group { label, value: Some(value) } => {
            let group = group(label, value, port).unwrap_or_else(|error| {
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
) -> Result<fib::Group, TranslateError> {
    let hops = match value {
        GroupValue::Blackhole => return Ok(fib::Group::Special(fib::Special::Blackhole)),
        GroupValue::Unreachable => return Ok(fib::Group::Special(fib::Special::Unreachable)),
        GroupValue::Prohibit => return Ok(fib::Group::Special(fib::Special::Prohibit)),
        GroupValue::Local => return Ok(fib::Group::Special(fib::Special::Local)),
        GroupValue::Hops(hops) => hops,
    };
    let members = hops.iter().map(|hop| member(label, hop, port)).collect::<Result<Vec<_>, _>>()?;
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
    fn records_of_other_kinds_are_left_out() {
        assert_eq!(one(&Change::Delete(Key::Opaque(Box::from([1u8])))), (None, Vec::new()));
    }
}
