//! The real Internet's table, 1,062,046 routes of both families, from a BGP speaker through bgpd and zebra into dataplanes of tiers 2 and 3, while a
//! clock runs; then a zebra that is stopped, and one that is killed, while it holds all of that.
//!
//! Another route server defines what must be in a table: it has the same routes from files: digests do not depend on where routes come from.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fibcast_control::{Answer, Request};
use fibcast_interop::{
    Frr, Host, LANS, Lab, Ours, Process, ROUTES, Tap, always, eventually, nic_toml, oracle,
    route_server_toml, veth_port,
};

const CONF: &str = "no fpm use-next-hop-groups\nrouter bgp 65000\n bgp router-id 10.255.0.1\n no bgp ebgp-requires-policy\n \
    neighbor 10.255.0.2 remote-as 65001\n neighbor 10.255.0.2 passive\n \
    address-family ipv6 unicast\n  neighbor 10.255.0.2 activate\n";
const SERVER: &str = "[rib]\nready_timeout_ms = 900000\n[[source]]\norigin = \"bgp\"\nkind = \"fpm\"\nlisten = \"127.0.0.1:2620\"\n\
    protocol = [\"bgp\", \"static\"]\nend_of_table = \"sentinel\"\n";
/// Changes while zebra is stopped.
const CHANGES: &str = "500/s:24s";

/// Plugs a host into port `n` of a NIC host; it has the addresses of all next hops behind that port.
fn plug_gateways(nic: &Host<'_>, n: usize, end: &Host<'_>) {
    let own = LANS[n].addresses(2);
    let gateways = [LANS[n].ipv4[1], LANS[n].ipv6[1]];
    nic.namespace().port(n, end.namespace(), "eth0", &own.each_ref().map(String::as_str), gateways).unwrap();
    let (v4, v6) = (gateways[0].strip_suffix("0.1").unwrap(), gateways[1].strip_suffix('1').unwrap());
    let batch = (1..=64).fold(String::new(), |text, i| {
        text + &format!(
            "address add {v4}1.{i}/16 dev eth0\naddress add {v6}{:x}/64 dev eth0 nodad\n",
            0x100 + i
        )
    });
    end.ip_batch(&batch);
}

/// A dataplane whose ports have all next hops behind them; it serves the tier below.
fn dataplane(host: &Host<'_>, name: &str, server: &str) -> String {
    let port = |n: usize| veth_port(n, &LANS[n].addresses(1).each_ref().map(String::as_str), "");
    nic_toml(host, name, "listen = [\"0.0.0.0:7830\"]", 1, &(port(0) + &port(1)))
        + &format!("[sync]\nservers = [{{ address = \"{server}:7830\", role = \"primary\" }}]\n")
}

/// Routes that workers forward by.
fn forwarding(nic: &Ours<'_>) -> u64 {
    match nic.ask(Request::Status) {
        Some(Answer::Status(status)) => status.forwarding.map_or(0, |forwarding| forwarding.routes),
        _ => 0,
    }
}

/// When each of these has all routes.
fn when_full(nics: [&Ours<'_>; 2], within_s: u64) -> [Instant; 2] {
    let mut when = [None; 2];
    eventually("all routes forwarded by in both tiers", within_s, || {
        for (when, nic) in when.iter_mut().zip(nics) {
            if when.is_none() && forwarding(nic) >= ROUTES {
                *when = Some(Instant::now());
            }
        }
        when.iter().all(Option::is_some)
    });
    when.map(Option::unwrap)
}

fn sentinel(frr: &Frr) -> Process {
    let helper = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/frr/fibcast-sentinel");
    frr.sentinel(helper.as_ref(), &[]).unwrap()
}

/// The digest that a table must have in the end.
fn expected(host: &Host<'_>, name: &str, source: &str) -> String {
    let oracle =
        host.ours("fibcast-route-server", name, &route_server_toml(host, name, "127.0.0.1:7830", source));
    let mut last = (String::new(), Instant::now());
    eventually("the oracle has all", 120, || {
        let status = oracle.status();
        if status.table.digest != last.0 {
            last = (status.table.digest, Instant::now());
        }
        status.ready && last.1.elapsed() > Duration::from_secs(3)
    });
    last.0
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}

#[test]
fn the_full_table_comes_through_frr_to_tiers_2_and_3_and_survives_a_stopped_and_a_killed_zebra() {
    let programs = ["zebra", "bgpd", "staticd", "vtysh", "ethtool", "nft", "ping"];
    let Some(lab) = Lab::new(&programs) else { return };
    let [a, up, two, three] = ["a", "up", "two", "three"].map(|name| lab.host(name));
    let ends = ["e0", "e1", "e2", "e3"].map(|name| lab.host(name));
    let _network = lab.network(&[&a, &up, &two, &three]);
    let internet = lab.internet(CHANGES);
    let before = expected(&up, "oracle", &oracle(&internet, false));
    let after = expected(&up, "oracle", &oracle(&internet, true));
    assert_ne!(before, after);
    a.gateways();
    for (nic, ends) in [(&two, &ends[..2]), (&three, &ends[2..])] {
        plug_gateways(nic, 0, &ends[0]);
        plug_gateways(nic, 1, &ends[1]);
    }
    let start = |tier: &str| -> Ours<'_> {
        match tier {
            "2" => two.ours("fibcast-dataplane", "nh-2", &dataplane(&two, "nh-2", "10.255.0.1")),
            _ => three.ours("fibcast-dataplane", "nh-3", &dataplane(&three, "nh-3", "10.255.0.3")),
        }
    };
    let mut server =
        a.ours("fibcast-route-server", "rs", &route_server_toml(&a, "rs", "0.0.0.0:7830", SERVER));
    let (mut tier2, mut tier3) = (start("2"), start("3"));
    let (tap, sink) = (Tap::new(&a, 2622, Some(2620)), Tap::new(&a, 2621, None));

    // From BGP, with FRR's own pace and pauses.
    let frr = a.frr(&["staticd", "bgpd"], &format!("fpm address 127.0.0.1 port 2622\n{CONF}"));
    let mut speaker = up.speaker(&internet, &["10.255.0.1"]);
    let helper = sentinel(&frr);
    let full = when_full([&tier2, &tier3], 300);
    // The sentinel is the last that zebra says.
    let heard = tap.heard();
    let begin = heard.first.unwrap();
    let last = heard.last.unwrap();
    println!(
        "from BGP: zebra sent {} bytes in {:.1} s, with the helper's settling time; the last route is forwarded by in tier 2 \
         {:.2} s and in tier 3 {:.2} s after the last byte: {:.2} times zebra's time",
        heard.bytes,
        seconds(heard.took()),
        seconds(full[0].saturating_duration_since(last)),
        seconds(full[1].saturating_duration_since(last)),
        seconds(full[1] - begin) / seconds(heard.took()),
    );
    assert_eq!(
        [&server, &tier2, &tier3].map(|ours| ours.digest()),
        [&before, &before, &before].map(|d| d.clone())
    );
    let reaches = |from: &Host<'_>, to: &str| from.try_sh(&format!("ping -n -c 3 -i 0.1 -W 2 {to}")).0;
    // Somewhere in the table, behind port 1: what a ping needs beside the route is the address.
    let shown = tier3.cli("show routes 223.255.254.0/24");
    let via = shown["routes"][0]["via"][0].as_str().unwrap().to_owned();
    let [from, to] = if via.starts_with("198.18.") { [1, 0] } else { [0, 1] };
    for pair in [&ends[..2], &ends[2..]] {
        pair[to].ip("address add 223.255.254.1/32 dev lo");
        assert!(reaches(&pair[from], "223.255.254.1"), "a packet by a route of {via}");
    }
    println!("resident: route server {} MiB", server.process().resident() >> 20);

    // zebra alone tells all again: into nothing, and to a route server and NIC hosts that are new.
    let mut ratios = Vec::new();
    for round in 1..=2 {
        frr.fpm_to(2621);
        let quiet = |tap: &Tap| tap.heard().last.is_some_and(|last| last.elapsed() > Duration::from_secs(3));
        eventually("zebra has sent its table to a sink", 180, || {
            quiet(&sink) && sink.heard().bytes > 50_000_000
        });
        let alone = sink.heard().took();
        [&mut tier3, &mut tier2, &mut server].into_iter().for_each(Ours::kill);
        server.start();
        tier2.start();
        tier3.start();
        frr.fpm_to(2622);
        eventually("zebra has begun", 20, || {
            tap.heard().last.is_some_and(|last| last.elapsed().as_secs() < 1)
        });
        let full = when_full([&tier2, &tier3], 120);
        let heard = tap.heard();
        let times = full.map(|full| seconds(full - heard.first.unwrap()));
        ratios.push(times[0].max(times[1]) / seconds(alone));
        println!(
            "zebra alone, round {round}: to a sink in {:.2} s, to a route server in {:.2} s; the last route is forwarded by in \
             tier 2 after {:.2} s, in tier 3 after {:.2} s: {:.2} times",
            seconds(alone),
            seconds(heard.took()),
            times[0],
            times[1],
            ratios[round - 1],
        );
    }
    let best = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(best < 5.0, "{best} times the time that zebra takes");
    assert_eq!(
        [&server, &tier2, &tier3].map(|ours| ours.digest()),
        [&before, &before, &before].map(|d| d.clone())
    );

    // Without the tap: stopped for 20 s while BGP keeps changing, zebra is slow but not lost.
    frr.fpm_to(2620);
    eventually("sent again", 120, || {
        server.counter("bgp", "sessions") >= 2 && server.counter("bgp", "routes_stale") == 0
    });
    let closes = frr.fpm_counter("Connection closes");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    speaker.tell(&format!("{}\n", now + 1.0)).unwrap();
    std::thread::sleep(Duration::from_secs(3));
    frr.pause("zebra", Duration::from_secs(20));
    assert_eq!(server.count(), ROUTES, "nothing is lost while zebra is stopped");
    let begin = Instant::now();
    eventually("all changes in all tiers", 120, || {
        [&server, &tier2, &tier3].iter().all(|ours| ours.digest() == after)
    });
    println!(
        "zebra stopped for 20 s of changes: all of them everywhere {:.1} s after it resumed",
        seconds(begin.elapsed())
    );
    assert_eq!(frr.fpm_counter("Connection closes"), closes, "no reset for slow reading");
    assert_eq!((server.counter("bgp", "messages_malformed"), server.counter("bgp", "routes_stale")), (0, 0));

    // Killed, and back without a word about what was deleted meanwhile. All of FRR, as watchfrr does it: bgpd does not tell a new zebra
    // what it sent to the previous one.
    frr.conf(&["ip route 192.0.2.0/24 blackhole"]);
    eventually("one more", 20, || server.count() == ROUTES + 1);
    drop(helper);
    ["zebra", "bgpd", "staticd"].into_iter().for_each(|daemon| frr.kill(daemon));
    eventually("zebra is gone", 5, || server.source("bgp").state == "disconnected");
    always("nothing is lost while zebra is gone", 3, || server.count() == ROUTES + 1);
    let begin = Instant::now();
    frr.write("frr.conf", &format!("fpm address 127.0.0.1 port 2620\n{CONF}")).unwrap();
    ["zebra", "staticd", "bgpd"].into_iter().for_each(|daemon| frr.start(daemon, 120).unwrap());
    frr.configure().unwrap();
    let _helper = sentinel(&frr);
    let mut least = u64::MAX;
    eventually("the deleted route is gone", 300, || {
        least = least.min(server.count());
        server.count() == ROUTES && server.source("bgp").state == "live"
    });
    println!(
        "zebra killed and started again: live and nothing stale after {:.1} s; never less than {least} routes",
        seconds(begin.elapsed())
    );
    assert_eq!(least, ROUTES, "no route was lost on the way");
    let same = || [&server, &tier2, &tier3].iter().all(|ours| ours.digest() == after);
    eventually("the same table in all tiers", 30, same);
    // zebra gives up what nobody claims; everything is claimed.
    always("and it stays", 20, same);
    assert_eq!(server.counter("bgp", "routes_stale"), 0);
}
