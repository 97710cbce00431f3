//! The kernel drops notifications for a socket that is not read in time. What they said is read again.

use std::time::{Duration, Instant};

use crate::lab::{Lab, has};

#[track_caller]
fn until(lab: &Lab, what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}: {}", lab.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// More changes of another interface than the daemon's socket holds, then a command, all while the daemon does not run.
fn meanwhile(lab: &Lab, command: &str) {
    let flood: String = (0..4_000).map(|n| format!("link set lo mtu {}\n", 60_000 + n % 2)).collect();
    let batch = lab.folder().join("flood");
    std::fs::write(&batch, flood).unwrap();
    lab.process().pause();
    let (content, text) = lab.on_router(&format!("ip -batch {} && {command}", batch.display()));
    lab.process().resume();
    assert!(content, "{text}");
}

#[test]
fn an_interface_that_was_set_down_unseen_is_restored_when_it_is_up() {
    if !has("ping") {
        return;
    }
    let Some(mut lab) = Lab::new(1) else { return };
    lab.start(&|_| "exception_path = true", "");
    lab.ok(0, "ping -n -c 1 -W 5 2001:db8:0::1");
    meanwhile(&lab, "ip link set fc-p0 down");
    until(&lab, "the loss is noticed", || lab.log().contains("interface fc-p0 is set down"));
    lab.on_router("ip link set fc-p0 up");
    until(&lab, "its addresses are back", || {
        lab.on_router("ip address show dev fc-p0").1.contains("2001:db8::1/64")
    });
    for command in ["ping -n -c 1 -W 5 10.0.0.1", "ping -n -c 1 -W 5 2001:db8:0::1"] {
        lab.ok(0, command);
    }
    let (content, text) = lab.on_router("ping -n -c 1 -W 5 -I 2001:db8::1 2001:db8::2");
    assert!(content, "{text}");
}

#[test]
fn down_and_up_unseen_are_restored_as_well_and_a_deleted_interface_is_created_again() {
    let Some(mut lab) = Lab::new(2) else { return };
    lab.start(&|_| "exception_path = true", "");
    meanwhile(&lab, "ip link set fc-p0 down && ip link set fc-p0 up && ip link del fc-p1");
    let has = |interface: &str, address: &str| {
        lab.on_router(&format!("ip address show dev {interface}")).1.contains(address)
    };
    until(&lab, "fc-p0 is restored", || has("fc-p0", "2001:db8::1/64"));
    until(&lab, "fc-p1 is back", || has("fc-p1", "10.0.1.1/24") && has("fc-p1", "2001:db8:1::1/64"));
    // What an operator adds while notifications are lost is found as well.
    meanwhile(&lab, "ip address add 192.0.2.77/32 dev fc-p0");
    until(&lab, "the address is known", || lab.log().contains("the kernel has 192.0.2.77/32"));
}
