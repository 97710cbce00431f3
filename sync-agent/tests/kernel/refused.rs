//! The routes that the kernel does not forward by are told with their reason, and hold back no other.

use std::time::{Duration, Instant};

use fibcast_sync_agent::sink::{Reason, Sink};
use fibcast_sync_proto::{GroupValue, HopValue};

use crate::stage::{Stage, group, route};

const NEVER: Duration = Duration::from_secs(86_400);

/// What the sink lists.
fn listed(stage: &mut Stage) -> Vec<(String, Reason)> {
    let list = stage.sink.refusals(u64::MAX).unwrap();
    list.iter().map(|(key, reason)| (key.1.to_string(), reason)).collect()
}

#[track_caller]
fn until(stage: &mut Stage, expected: &[(&str, Reason)]) {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let found = listed(stage);
        if found.iter().map(|(prefix, reason)| (prefix.as_str(), *reason)).eq(expected.iter().copied()) {
            return;
        }
        assert!(Instant::now() < end, "{found:?}, expected {expected:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_refused_route_is_listed_before_its_batch_counts_until_the_kernel_has_it() {
    let Some(mut stage) = Stage::beside("", NEVER, |host| {
        _ = host.ip("route add 10.1.0.0/16 via 192.0.2.9 table 200 proto static metric 1024").unwrap();
    }) else {
        return;
    };
    let unknown = HopValue { gateway: None, port: Some("p9".into()), weight: 1 };
    let unknown = GroupValue::Hops(vec![unknown]);
    let unreachable = group(&["203.0.113.1"]);
    let routes = [
        route("10.0.0.0/8".parse().unwrap(), Some(&group(&["192.0.2.2"]))),
        route("10.1.0.0/16".parse().unwrap(), Some(&group(&["192.0.2.2"]))),
        route("10.2.0.0/16".parse().unwrap(), Some(&unknown)),
        route("10.3.0.0/16".parse().unwrap(), Some(&unreachable)),
    ];
    stage.commit(routes.concat());
    let end = Instant::now() + Duration::from_secs(60);
    while stage.sink.installed() != Some(1) {
        assert!(Instant::now() < end, "the batch does not count: {:?}", stage.status());
        std::thread::sleep(Duration::from_millis(1));
    }
    // At this moment, not some time later.
    let found = listed(&mut stage);
    let expected = [
        ("10.1.0.0/16".to_owned(), Reason::Occupied),
        ("10.2.0.0/16".to_owned(), Reason::UnknownPort),
        ("10.3.0.0/16".to_owned(), Reason::Kernel),
    ];
    assert_eq!(found, expected);
    let (port, kernel) = (("10.2.0.0/16", Reason::UnknownPort), ("10.3.0.0/16", Reason::Kernel));
    stage.ip("route del 10.1.0.0/16 table 200 proto static");
    until(&mut stage, &[port, kernel]);
    // The port appears.
    stage.ip("link add p9 type veth peer name p9x");
    stage.ip("link set p9 up");
    until(&mut stage, &[kernel]);
    stage.commit(route("10.3.0.0/16".parse().unwrap(), None));
    until(&mut stage, &[]);
}
