//! `show version`, `config`, `interfaces` and `next-hops`.

use fibcast_control::about::{RunningConfig, Version};
use fibcast_control::interfaces::{InterfaceList, NextHopList};

use super::columns::{Table, or_dash};

pub fn versions(list: &[Version]) -> String {
    let libraries = |list: &[String]| if list.is_empty() { "-".to_owned() } else { list.join(", ") };
    Table::of(list)
        .text("program", |version| &version.program)
        .value("node", |version| or_dash(version.node.as_ref()))
        // A column of versions is not one of numbers.
        .text("version", |version| &version.version)
        .value("commit", |version| or_dash(version.commit.as_ref()))
        .value("build", |version| or_dash(version.profile.as_ref()))
        .value("target", |version| or_dash(version.target.as_ref()))
        .value("rustc", |version| or_dash(version.rustc.as_ref()))
        .value("libraries", |version| libraries(&version.libraries))
        .finish()
}

pub fn config(config: &RunningConfig) -> String {
    format!("# {}\n{}", config.path, config.toml)
}

pub fn interfaces(list: &InterfaceList) -> String {
    let addresses = |list: &[ipnet::IpNet]| match list {
        [] => "-".to_owned(),
        list => list.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    };
    Table::of(&list.interfaces)
        .text("interface", |interface| &interface.name)
        .state("link", |interface| link(interface.link_up))
        .value("speed", |interface| or_dash(interface.speed_mbps.map(speed)))
        .value("mtu", |interface| or_dash(interface.mtu))
        .value("vlan", |interface| match (&interface.parent, interface.vlan) {
            (Some(parent), Some(vlan)) => format!("{vlan} on {parent}"),
            _ => "-".to_owned(),
        })
        .value("vrf", |interface| interface.vrf)
        .value("mac", |interface| or_dash(interface.mac.as_ref()))
        .value("addresses", |interface| addresses(&interface.addresses))
        .finish()
}

fn link(up: Option<bool>) -> &'static str {
    match up {
        Some(true) => "up",
        Some(false) => "down",
        None => "unknown",
    }
}

/// `25G`, `2.5G`, `100M`: as FRR and ethtool's short forms.
fn speed(mbps: u32) -> String {
    if mbps >= 1_000 { format!("{}G", f64::from(mbps) / 1e3) } else { format!("{mbps}M") }
}

pub fn next_hops(list: &NextHopList) -> String {
    let mut text = Table::of(&list.next_hops)
        .value("gateway", |hop| or_dash(hop.gateway))
        .value("port", |hop| or_dash(hop.port.as_ref()))
        .value("mac", |hop| or_dash(hop.mac.as_ref()))
        .state("state", |hop| hop.state.clone())
        .value("groups", |hop| hop.groups.len())
        .value("routes", |hop| hop.routes)
        .finish();
    for hop in &list.next_hops {
        if let (Some(gateway), Some(reason)) = (hop.gateway, &hop.reason) {
            text += &format!("{gateway}: {reason}\n");
        }
    }
    let unresolved = list.next_hops.iter().filter(|hop| !hop.resolved).count();
    text + &format!("{} next hops, {unresolved} unresolved\n", list.next_hops.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use fibcast_control::interfaces::{Interface, NextHopEntry};

    #[test]
    fn an_interface_is_a_line_with_what_is_known_of_it() {
        let list = InterfaceList {
            interfaces: vec![
                Interface {
                    name: "p0".into(),
                    link_up: Some(true),
                    speed_mbps: Some(25_000),
                    mtu: Some(9000),
                    mac: Some("02:00:00:00:00:01".into()),
                    addresses: vec!["192.0.2.1/24".parse().unwrap(), "2001:db8::1/64".parse().unwrap()],
                    ..Interface::default()
                },
                Interface {
                    name: "p0.100".into(),
                    parent: Some("p0".into()),
                    vlan: Some(100),
                    link_up: Some(false),
                    mtu: Some(1500),
                    vrf: 7,
                    ..Interface::default()
                },
            ],
        };
        let expected = "\
interface  link  speed   mtu  vlan       vrf  mac                addresses
p0         up    25G    9000  -            0  02:00:00:00:00:01  192.0.2.1/24, 2001:db8::1/64
p0.100     down  -      1500  100 on p0    7  -                  -
";
        assert_eq!(interfaces(&list), expected);
        assert_eq!((speed(2_500), speed(100), speed(400_000)), ("2.5G".into(), "100M".into(), "400G".into()));
    }

    #[test]
    fn a_next_hop_that_cannot_be_resolved_says_why() {
        let hop = NextHopEntry {
            gateway: "10.9.9.9".parse().ok(),
            state: "unresolved".into(),
            reason: Some("no route has it".into()),
            groups: vec!["00000000000000aa".into()],
            routes: 12,
            ..NextHopEntry::default()
        };
        let page = next_hops(&NextHopList { next_hops: vec![hop] });
        let lines: Vec<&str> = page.lines().collect();
        assert_eq!(
            lines[1].split_whitespace().collect::<Vec<_>>(),
            ["10.9.9.9", "-", "-", "unresolved", "1", "12"]
        );
        assert_eq!(lines[2..], ["10.9.9.9: no route has it", "1 next hops, 1 unresolved"]);
    }
}
