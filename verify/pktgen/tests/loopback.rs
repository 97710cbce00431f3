//! The program with its port plugged into itself: everything that it sends comes back.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{figures, run, words};

const PLUG: [&str; 4] = ["--dut", "loopback", "--port", "device=net_ring0"];

fn number(value: &serde_json::Value, key: &str) -> f64 {
    value[key].as_f64().unwrap_or_else(|| panic!("{key}: {value}"))
}

/// On a machine that others use the load may not be the intended one; then the program must say so.
fn honest(output: &std::process::Output) -> bool {
    let figures = figures(output);
    let (offered, intended) = (number(&figures, "offered_pps"), number(&figures, "intended_pps"));
    let is_short = String::from_utf8_lossy(&output.stderr).contains("not the intended");
    let right = (offered / intended - 1.0).abs() <= 0.02;
    assert!(right || is_short, "{}", words(output));
    assert_eq!(output.status.success(), !is_short, "{}", words(output));
    !is_short
}

#[test]
fn every_kind_of_frame_comes_back_whole() {
    let folder = tempfile::tempdir().unwrap();
    for kind in [
        &["--sizes", "64"][..],
        &["--sizes", "imix", "--protocol", "both"],
        &["--sizes", "64-300", "--families", "ipv6", "--protocol", "tcp"],
        &["--sizes", "9000"],
        &["--sizes", "64:1,1518:1", "--flows", "1"],
        &["--flows", "5000", "--zipf", "1.1", "--burst", "8"],
    ] {
        let arguments = [
            &PLUG[..],
            &["--prefixes", "9.0.0.0/8,2a00::/16", "--flows", "500"],
            &["--rate", "20k", "--duration", "0.5"],
            kind,
        ];
        // The last one counts.
        let arguments: Vec<&str> = match kind.contains(&"--flows") {
            true => [arguments[0], &arguments[1][..2], arguments[2], arguments[3]].concat(),
            false => arguments.concat(),
        };
        let output = run(folder.path(), &arguments);
        let seen = figures(&output);
        for key in ["lost", "misdelivered", "duplicated", "reordered", "corrupt", "late"] {
            assert_eq!(number(&seen, key), 0.0, "{kind:?} {key}: {}", words(&output));
        }
        assert!(
            number(&seen, "received") > 100.0 && seen["sent"] == seen["received"],
            "{kind:?}: {}",
            words(&output)
        );
        honest(&output);
    }
}

#[test]
fn tagged_frames_come_back_with_their_tag() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = [
        "--dut",
        "loopback",
        "--port",
        "vlan=7,device=net_ring0",
        "--prefixes",
        "9.0.0.0/8",
        "--rate",
        "5k",
        "--duration",
        "0.3",
    ];
    let output = run(folder.path(), &arguments);
    let seen = figures(&output);
    assert!(seen["sent"] == seen["received"] && number(&seen, "received") > 10.0, "{}", words(&output));
}

#[test]
fn captured_packets_are_sent_as_they_are_or_to_other_destinations() {
    let folder = tempfile::tempdir().unwrap();
    // Ethernet, IPv4 (no check sum yet), UDP from 5000 to 53, 40 bytes.
    let mut frame = vec![2; 12];
    frame.extend([8, 0, 0x45, 0, 0, 68, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 9, 8, 7, 6]);
    frame.extend([0x13, 0x88, 0, 53, 0, 48, 0, 0]);
    frame.extend([0xaa; 40]);
    std::fs::write(folder.path().join("x.pcap"), fibcast_testbed::pcap::write([&frame, &frame])).unwrap();
    for more in [&[][..], &["--rewrite", "--prefixes", "9.0.0.0/8", "--flows", "20"]] {
        let arguments =
            [&PLUG[..], &["--pcap", "x.pcap", "--rate", "5k", "--duration", "0.3"], more].concat();
        let output = run(folder.path(), &arguments);
        let seen = figures(&output);
        assert!(seen["sent"] == seen["received"] && number(&seen, "received") > 10.0, "{}", words(&output));
        assert_eq!(number(&seen, "flows"), if more.is_empty() { 2.0 } else { 20.0 });
    }
}

#[test]
fn rate_that_the_machine_cannot_send_ends_with_1_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let arguments =
        [&PLUG[..], &["--prefixes", "9.0.0.0/8", "--flows", "100", "--rate", "900Mpps", "--duration", "0.3"]]
            .concat();
    let output = run(folder.path(), &arguments);
    assert_eq!(output.status.code(), Some(1));
    assert!(!honest(&output));
    assert!(words(&output).contains("not the intended 900000000"), "{}", words(&output));
}

#[test]
fn reports_of_a_search_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = [
        &PLUG[..],
        &[
            "--prefixes",
            "9.0.0.0/8",
            "--flows",
            "100",
            "--test",
            "loss-curve",
            "--max-rate",
            "20k",
            "--step",
            "50",
            "--trial",
            "0.3",
        ],
        &["--json-file", "r.json", "--csv-file", "r.csv", "--html-file", "r.html", "--loss-wait", "0.3"],
    ]
    .concat();
    let output = run(folder.path(), &arguments);
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let json: serde_json::Value = serde_json::from_str(&read("r.json")).unwrap();
    let points = json["curve"].as_array().unwrap();
    assert_eq!(points.len(), 2, "{}", words(&output));
    assert!(points.iter().all(|point| point["loss_ratio"] == 0.0), "a plug loses nothing: {json}");
    assert_eq!(read("r.csv").lines().count(), 3);
    assert!(read("r.html").contains("<svg"));
    let late = json["warnings"]
        .as_array()
        .unwrap()
        .iter()
        .any(|words| words.as_str().unwrap().contains("not the intended"));
    assert_eq!(output.status.success(), !late, "{}", words(&output));
}

#[test]
fn two_cores_have_a_queue_each() {
    let folder = tempfile::tempdir().unwrap();
    if std::thread::available_parallelism().unwrap().get() < 2 {
        eprintln!("skipped: one core");
        return;
    }
    let arguments = [
        &PLUG[..],
        &["--prefixes", "9.0.0.0/8,2a00::/16", "--flows", "501", "--coverage", "--cores", "0,1"],
        &["--rate", "20k", "--duration", "0.5"],
    ]
    .concat();
    let output = run(folder.path(), &arguments);
    let seen = figures(&output);
    for key in ["lost", "misdelivered", "duplicated", "reordered", "corrupt", "late"] {
        assert_eq!(number(&seen, key), 0.0, "{key}: {}", words(&output));
    }
    assert_eq!((number(&seen, "flows"), number(&seen, "covered")), (501.0, 501.0), "{}", words(&output));
    let queues = seen["queues"].as_array().unwrap();
    assert_eq!(queues.len(), 2);
    for (core, queue) in queues.iter().enumerate() {
        assert_eq!((number(queue, "queue"), number(queue, "core")), (core as f64, core as f64));
        assert!(number(queue, "sent") > 100.0 && queue["sent"] == queue["received"], "{queue}");
        assert_eq!(number(queue, "sent_bytes"), number(queue, "received_bytes"));
    }
    honest(&output);
}

#[test]
fn soak_has_a_result_for_each_part() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = [
        &PLUG[..],
        &["--prefixes", "9.0.0.0/8", "--flows", "10", "--test", "soak", "--max-rate", "5k"],
        &["--duration", "0.9", "--trial", "0.3", "--loss-wait", "0.2", "--json-file", "r.json"],
    ]
    .concat();
    let output = run(folder.path(), &arguments);
    let text = std::fs::read_to_string(folder.path().join("r.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(json["trials"].as_array().unwrap().len() >= 3, "{}", words(&output));
    assert_eq!(json["curve"][0]["loss_ratio"], 0.0);
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(table.contains("packets of all trials") && table.contains("forwarded"), "{table}");
}

/// After a search: at parts of its result, beside the part that is the generator's own.
#[test]
fn latency_is_measured_at_parts_of_the_result_and_of_the_generator_alone() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = [
        &PLUG[..],
        &["--prefixes", "9.0.0.0/8", "--flows", "10", "--test", "throughput", "--max-rate", "3k"],
        &[
            "--min-rate",
            "2k",
            "--trial",
            "0.2",
            "--loss-wait",
            "0.2",
            "--width",
            "0.4",
            "--json-file",
            "r.json",
        ],
    ]
    .concat();
    let output = run(folder.path(), &arguments);
    let text = std::fs::read_to_string(folder.path().join("r.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    if json["results"][0]["pps"].is_null() {
        // The machine was too busy for 2,000 packets/s; then the program must say so.
        assert!(words(&output).contains("not the intended"), "{}", words(&output));
        return;
    }
    let rows = json["latency"].as_array().unwrap();
    assert_eq!(rows.len(), 3, "{}", words(&output));
    for row in rows {
        for of in ["device", "generator"] {
            assert!(number(&row[of], "samples") > 2.0, "{of}: {row}");
            assert!(number(&row[of], "p50") > 0.0 && number(&row[of], "p50") <= number(&row[of], "max"));
        }
    }
}
