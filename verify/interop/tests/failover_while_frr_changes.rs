//! Two route servers with the full table from an FRR each, which keeps changing; packets through a dataplane; the primary is killed and comes
//! back. This is `make demo-frr`, whose own verdict is asked, with bounds on what it prints.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::Command;

use fibcast_interop::{Lab, programs};

/// The number in the row of the demo's table that begins so.
fn figure(text: &str, row: &str) -> Vec<u64> {
    let values = text.lines().filter_map(|line| line.strip_prefix(row));
    values.filter_map(|rest| rest.split_whitespace().next()?.replace(',', "").parse().ok()).collect()
}

#[test]
fn nothing_is_lost_when_the_primary_is_killed_while_frr_changes_routes() {
    let Some(_lab) = Lab::new(&["zebra", "bgpd", "staticd", "vtysh", "setpriv"]) else { return };
    let project = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let output = Command::new(programs().join("fibcast-demo"))
        .args(["--frr", "--short", "--programs"])
        .arg(programs())
        .args(["--data", &format!("{project}/verify/data"), "--packaging", &format!("{project}/packaging")])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let reports = text.lines().filter(|line| line.contains(": zebra sent"));
    let table = text.lines().skip_while(|line| !line.starts_with("routes in the table"));
    reports.chain(table).for_each(|line| println!("{line}"));
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(figure(&text, "routes in the table"), [1_062_046]);
    assert!(figure(&text, "packets sent")[0] > 1_000_000, "packets flowed");
    for server in ["rs-a ", "rs-b "] {
        // Two origins of a full table each; the other row of this name is the digest.
        let resident = figure(&text, server)[0];
        assert!(resident <= 450, "{server}: {resident} MiB resident");
    }
}
