//! A Linux host as gateway, under load for longer than a confirmation is valid (RFC 4861 §10, REACHABLE_TIME): it is probed by unicast,
//! confirms without a link-layer option, and no packet waits or is lost. `LINUX_GATEWAY_S` says for how many seconds (45 by default).

use crate::lab::{Lab, has};

const ROUTES: &str = r#"
[[static_route]]
prefix = "203.0.113.0/24"
via = "10.0.1.2"

[[static_route]]
prefix = "2001:db8:f::/48"
via = "2001:db8:1::2"
"#;

/// Counts requests to groups, which a known neighbor never gets.
const COUNTERS: &str = "nft add table arp watch && \
    nft add chain arp watch in '{ type filter hook input priority 0; }' && \
    nft add rule arp watch in arp operation request meta pkttype broadcast counter && \
    nft add rule arp watch in arp operation request meta pkttype host counter && \
    nft add table ip6 watch && \
    nft add chain ip6 watch in '{ type filter hook input priority 0; }' && \
    nft add rule ip6 watch in icmpv6 type nd-neighbor-solicit ip6 daddr ff00::/8 counter && \
    nft add rule ip6 watch in icmpv6 type nd-neighbor-solicit ip6 daddr != ff00::/8 counter";

/// Seconds of one flood.
const ROUND_S: u64 = 45;
/// Echoes that a flood has on their way.
const IN_FLIGHT: u64 = 32;

/// How many echoes a ping sent, and how many answers came.
fn echoes(text: &str) -> (u64, u64) {
    let line = text.lines().find(|line| line.contains("packets transmitted")).unwrap_or_default();
    let numbers: Vec<u64> =
        line.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect();
    let [sent, received, ..] = numbers[..] else { panic!("{text}") };
    (sent, received)
}

#[test]
fn a_linux_gateway_under_load_loses_nothing_and_is_asked_by_unicast_only() {
    let Some(mut lab) = Lab::new(2) else { return };
    if !has("ping") {
        return;
    }
    lab.start(&|_| "", ROUTES);
    let seconds: u64 = std::env::var("LINUX_GATEWAY_S").ok().and_then(|text| text.parse().ok()).unwrap_or(45);
    lab.ok(1, "ip address add 203.0.113.1/32 dev lo && ip address add 2001:db8:f::1/128 dev lo && ip link set lo up");
    // The first requests, and the announcements of the router's own addresses, are over.
    lab.ok(0, "ping -n -c 2 -W 2 203.0.113.1 && ping -n -c 2 -W 2 2001:db8:f::1 && sleep 4");
    let (counts, why) = lab.on(1, COUNTERS);
    if !counts {
        eprintln!("skipped in part: this nft counts no ARP: {why}");
    }
    let (folder, mut total) = (lab.folder().display().to_string(), [(0, 0); 2]);
    // A command on a host may take a minute.
    for round in 0..seconds.div_ceil(ROUND_S) {
        let flood = |to: &str| {
            format!("ping -q -n -f -l {IN_FLIGHT} -w {} {to}", ROUND_S.min(seconds - round * ROUND_S))
        };
        let both = format!("{} > {folder}/v4 & {} ; wait", flood("203.0.113.1"), flood("2001:db8:f::1"));
        let v6 = lab.ok(0, &both);
        let v4 = std::fs::read_to_string(lab.folder().join("v4")).unwrap();
        for (text, total) in [v4, v6].iter().zip(&mut total) {
            let (sent, received) = echoes(text);
            // The last ones of a flood are still on their way when it ends.
            assert!(sent - received <= IN_FLIGHT, "{text}");
            *total = (total.0 + sent, total.1 + sent - received);
        }
    }
    for (family, (sent, missing)) in ["IPv4", "IPv6"].iter().zip(total) {
        eprintln!(
            "{family}: {sent} echoes in {seconds} s, {missing} were on their way at the end of a round"
        );
    }
    if counts {
        let rules = lab.ok(1, "nft list table arp watch && nft list table ip6 watch");
        let packets: Vec<u64> = rules
            .lines()
            .filter_map(|line| line.split("counter packets ").nth(1)?.split(' ').next()?.parse().ok())
            .collect();
        let [arp_group, arp_unicast, nd_group, nd_unicast] = packets[..] else { panic!("{rules}") };
        eprintln!("requests: ARP {arp_unicast} by unicast, ND {nd_unicast}");
        assert_eq!((arp_group, nd_group), (0, 0), "{rules}");
        assert!(arp_unicast >= 1 && nd_unicast >= 1, "{rules}");
    }
    assert_eq!(lab.drops().held, 0);
}
