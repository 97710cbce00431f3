//! Somebody else uses our kernel table: what shadows a route of ours is reported until it is gone, and never touched.

use std::time::Duration;

use crate::stage::{Stage, group, route};

/// So long that only notifications cause passes.
const NEVER: Duration = Duration::from_secs(86_400);

/// A table with routes of each kind.
fn routes(stage: &mut Stage) {
    let all: [(&str, &[&str]); 5] = [
        ("10.0.0.0/8", &["192.0.2.2"]),
        ("10.1.0.0/16", &["192.0.2.2", "192.0.2.3"]),
        ("10.2.0.0/16", &[]),
        ("2001:db8:1::/48", &["2001:db9::2"]),
        ("2001:db8:3::/48", &[]),
    ];
    let changes = all.iter().flat_map(|(prefix, via)| route(prefix.parse().unwrap(), Some(&group(via))));
    stage.commit(changes.collect());
    stage.eventually("five routes", |status| status.routes == 5);
    // After changes of links and addresses (duplicate address detection) the table is read and mended by another way, uncounted.
    loop {
        let audits = stage.status().audits;
        std::thread::sleep(Duration::from_millis(2_500));
        if stage.status().audits == audits {
            return;
        }
    }
}

#[test]
fn a_route_that_the_kernel_prefers_is_told_until_it_is_gone_and_stays_where_it_is() {
    let Some(mut stage) = Stage::beside("", NEVER, |host| {
        _ = host.ip("route add 10.1.0.0/16 via 192.0.2.9 table 200 proto bird metric 32").unwrap();
    }) else {
        return;
    };
    routes(&mut stage);
    // It was there before us, and is reported without a pass.
    let status = stage.eventually("one is shadowed", |status| status.shadowed == 1);
    let text = status.shadow.unwrap();
    assert!(text.starts_with("10.1.0.0/16 by a route of protocol bird, metric 32, dev eth0"), "{text}");
    stage.ip("route del 10.1.0.0/16 table 200 proto bird");
    stage.eventually("none is", |status| status.shadowed == 0);
    for (family, add, says) in [
        ("-4", "route add 10.0.0.0/8 via 192.0.2.9 proto static metric 10", "static, metric 10, dev eth0"),
        ("-4", "route add 10.0.0.0/8 via 192.0.2.9 proto zebra", "zebra, metric 0"),
        ("-4", "route prepend 10.0.0.0/8 via 192.0.2.9 proto static metric 1024", "metric 1024"),
        ("-4", "route add 10.0.0.0/8 tos 0x10 via 192.0.2.9 proto static metric 2000", "TOS 0x10"),
        ("-4", "route add throw 10.2.0.0/16 proto static metric 5", "metric 5"),
        ("-4", "route add 10.0.0.0/8 via 192.0.2.9 proto 217 metric 5", "protocol 217, metric 5"),
        ("-6", "route add 2001:db8:1::/48 via 2001:db9::9 proto bird metric 32", "bird, metric 32"),
        ("-6", "route add unreachable 2001:db8:3::/48 proto static metric 10", "static, metric 10"),
    ] {
        stage.ip(&format!("{family} {add} table 200"));
        let status = stage.eventually(add, |status| status.shadowed == 1);
        let text = status.shadow.clone().unwrap();
        assert!(text.contains(says), "{add}: {text}");
        assert_eq!((status.routes, status.refused, status.foreign), (5, 0, 1), "{add}: {status:?}");
        // The command that the text names removes it, and nothing else.
        let command = text.split("to remove it: ip ").nth(1).unwrap().split(')').next().unwrap();
        stage.ip(command);
        let status = stage.eventually(command, |status| status.shadowed == 0);
        assert_eq!((status.routes, status.refused, status.foreign), (5, 0, 0), "{add}: {status:?}");
        assert_eq!((status.scrub.differences, status.shadow), (0, None), "{add}");
    }
}

#[test]
fn what_is_no_fault_raises_no_alarm() {
    let Some(mut stage) = Stage::new("", NEVER) else { return };
    routes(&mut stage);
    for route in [
        // More specific, less specific, less preferred, behind ours, a connected subnet.
        "-4 route add 10.0.7.0/24 via 192.0.2.9 proto static metric 1",
        "-4 route add default via 192.0.2.9 proto static",
        "-4 route add 10.0.0.0/8 via 192.0.2.9 proto static metric 2000",
        "-4 route append 10.0.0.0/8 via 192.0.2.9 proto static metric 1024",
        "-4 route add 10.2.0.0/16 dev eth0 proto kernel scope link",
        "-6 route add 2001:db8:1:7::/64 via 2001:db9::9 proto static metric 1",
        "-6 route add 2001:db8:1::/48 via 2001:db9::9 proto static metric 2000",
    ] {
        stage.ip(&format!("{route} table 200"));
    }
    let status = stage.eventually("all are seen", |status| status.foreign == 7);
    assert_eq!((status.shadowed, status.routes, status.refused, status.scrub.differences), (0, 5, 0, 0));
}

#[test]
fn what_others_do_in_other_tables_and_what_we_do_ourselves_causes_no_pass() {
    let Some(mut stage) = Stage::new("", NEVER) else { return };
    for number in 0..20 {
        stage.ip(&format!("route add 198.51.100.{number}/32 via 192.0.2.9"));
        stage.ip(&format!("route add 198.51.100.{number}/32 via 192.0.2.9 table 7000"));
        stage.ip(&format!("-6 route add 2001:db8:{number}::/48 via 2001:db9::9"));
    }
    routes(&mut stage);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(stage.status().scrub.passes, 0);
    stage.ip("route add 10.77.0.0/16 via 192.0.2.9 table 200");
    stage.eventually("a pass", |status| status.scrub.passes == 1 && status.foreign == 1);
}

#[test]
fn a_route_of_somebody_else_in_the_place_of_ours_is_never_replaced() {
    let Some(mut stage) = Stage::new("", NEVER) else { return };
    routes(&mut stage);
    for (n, v6, prefix, theirs) in [
        (1, false, "10.0.0.0/8", "replace 10.0.0.0/8 via 192.0.2.9"),
        (2, false, "10.2.0.0/16", "replace blackhole 10.2.0.0/16"),
        (3, true, "2001:db8:1::/48", "replace 2001:db8:1::/48 via 2001:db9::9"),
    ] {
        let family = if v6 { "-6" } else { "-4" };
        stage.ip(&format!("{family} route {theirs} table 200 proto static metric 1024"));
        let status = stage.eventually(theirs, |status| {
            (status.refused, status.routes, status.scrub.differences) == (1, 4, n)
        });
        assert_eq!(status.shadowed, 0, "{theirs}: {status:?}");
        let last = status.scrub.last_difference.unwrap();
        assert!(last.contains("found a route of somebody else in its place"), "{last}");
        let refusal = status.last_refusal.unwrap();
        assert!(refusal.contains("a route of somebody else has its prefix and metric 1024"), "{refusal}");
        // Ours changes, is withdrawn, and comes back.
        let gateway = if v6 { "2001:db9::3" } else { "192.0.2.3" };
        let prefix = prefix.parse().unwrap();
        for (via, refused) in
            [(Some(vec![gateway]), 1), (Some(vec![]), 1), (None, 0), (Some(vec![gateway]), 1)]
        {
            let group = via.map(|via| group(&via));
            stage.commit(route(prefix, group.as_ref()));
            stage.eventually("the change", |status| (status.refused, status.routes) == (refused, 4));
            let left = stage.ip(&format!("{family} route show table 200 proto static"));
            assert_eq!(left.lines().count(), 1, "{theirs}: {left}");
        }
        stage.ip(&format!("{family} route del {prefix} table 200 proto static"));
        stage.eventually("ours is back", |status| (status.refused, status.routes) == (0, 5));
    }
}

#[test]
fn what_somebody_does_to_our_routes_is_mended_without_waiting_for_the_next_pass() {
    let Some(mut stage) = Stage::new("", NEVER) else { return };
    routes(&mut stage);
    let ours = |stage: &Stage| {
        stage.ip("-4 route show table 200 proto 217") + &stage.ip("-6 route show table 200 proto 217")
    };
    let before = ours(&stage);
    for (n, commands) in [
        (1, vec!["route del 10.0.0.0/8 table 200"]),
        (2, vec!["-6 route del 2001:db8:1::/48 table 200"]),
        (3, vec!["route replace 10.0.0.0/8 via 192.0.2.77 table 200 proto 217 metric 1024"]),
        (4, vec!["route replace blackhole 10.1.0.0/16 table 200 proto 217 metric 1024"]),
        (5, vec!["route change 10.2.0.0/16 via 192.0.2.3 table 200 proto 217 metric 1024"]),
        // By a next-hop object, which takes the route with it when it goes.
        (
            6,
            vec![
                "nexthop add id 7 via 192.0.2.3 dev eth0",
                "route replace 10.0.0.0/8 nhid 7 table 200 proto 217 metric 1024",
                "nexthop del id 7",
            ],
        ),
    ] {
        commands.iter().for_each(|command| _ = stage.ip(command));
        let what = format!("{commands:?}");
        stage.eventually(&what, |status| status.scrub.mended >= n && ours(&stage) == before);
    }
    let status = stage.status();
    assert_eq!((status.shadowed, status.refused, status.routes), (0, 0, 5), "{status:?}");
}

#[test]
fn an_operator_may_accept_overrides() {
    let Some(mut stage) = Stage::new("accept_shadowed = true", NEVER) else { return };
    routes(&mut stage);
    stage.ip("route add blackhole 10.0.0.0/8 table 200 proto static metric 1");
    let status = stage.eventually("it is counted", |status| status.shadowed == 1);
    assert!(status.shadows_accepted);
}
