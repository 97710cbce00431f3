//! Hosts as containers are: behind a veth pair whose offloads nobody switched off.

use crate::lab::{Lab, has};

/// Hosts with the offloads that a new veth pair has.
fn containers() -> Option<Lab> {
    if !has("iperf3") || !has("ping") {
        return None;
    }
    let lab = Lab::new(2)?;
    for host in 0..2 {
        lab.ok(host, "ethtool -K e0 tx on rx on tso on gso on >/dev/null");
        let offloads = lab.ok(host, "ethtool -k e0");
        for offload in
            ["tx-checksumming: on", "tcp-segmentation-offload: on", "generic-segmentation-offload: on"]
        {
            assert!(offloads.contains(offload), "{offloads}");
        }
    }
    Some(lab)
}

#[test]
fn tcp_and_udp_between_containers_that_leave_checksums_to_the_interface() {
    let Some(mut lab) = containers() else { return };
    lab.start(&|_| "", "");
    for to in ["10.0.1.2", "2001:db8:1::2"] {
        let log = lab.folder().join("server.log");
        for options in ["", "-u -b 20M -l 1200"] {
            lab.ok(1, &format!("iperf3 -s -1 -D -B {to} --logfile {}; sleep 0.5", log.display()));
            let text = lab.ok(0, &format!("timeout 20 iperf3 -c {to} -t 1 -f m {options}"));
            assert!(text.contains("receiver"), "{text}");
        }
    }
    assert_eq!(lab.dropped("bad_length"), 0, "packets in one piece");
    // Not one packet whose receiver found the checksum wrong.
    for host in [0, 1] {
        let errors = lab.ok(host, "nstat -asz TcpInCsumErrors UdpInCsumErrors Udp6InCsumErrors | awk 'NR > 1 {s += $2} END {print s + 0}'");
        assert_eq!(errors.trim(), "0");
    }
}

#[test]
fn tcp_to_a_program_on_the_routers_host_from_a_container_and_back() {
    let Some(mut lab) = containers() else { return };
    lab.start(&|_| "exception_path = true", "");
    let log = lab.folder().join("server.log");
    lab.on_router(&format!("iperf3 -s -1 -D -B 10.0.1.1 --logfile {}; sleep 0.5", log.display()));
    // Both directions: what the kernel sends by its TAP interface has whole checksums.
    let text = lab.ok(0, "timeout 20 iperf3 -c 10.0.1.1 -t 1 -f m --bidir");
    assert!(text.contains("receiver"), "{text}");
    let errors = "nstat -asz TcpInCsumErrors UdpInCsumErrors | awk 'NR > 1 {s += $2} END {print s + 0}'";
    assert_eq!((lab.ok(0, errors).trim(), lab.on_router(errors).1.trim()), ("0", "0"));
}

#[test]
fn fragments_cross_the_router_as_they_are() {
    let Some(mut lab) = containers() else { return };
    lab.start(&|_| "exception_path = true", "");
    for (options, size) in
        [("-4", 3_000), ("-4", 1_600), ("-4", 20_000), ("-6", 3_000), ("-4 -M dont", 1_472)]
    {
        let to = if options.starts_with("-4") { "10.0.1.2" } else { "2001:db8:1::2" };
        let text = lab.ok(0, &format!("ping {options} -n -c 3 -i 0.1 -W 5 -s {size} {to}"));
        assert!(text.contains("3 received"), "{options} {size}: {text}");
    }
    // Fragments to the router itself: the kernel behind the TAP interface reassembles.
    for to in ["10.0.0.1", "10.0.1.1", "2001:db8:1::1"] {
        let text = lab.ok(0, &format!("ping -n -c 3 -i 0.1 -W 5 -s 3000 {to}"));
        assert!(text.contains("3 received"), "{to}: {text}");
    }
    assert_eq!(lab.dropped("bad_length"), 0);
}
