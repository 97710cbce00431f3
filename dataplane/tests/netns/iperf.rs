//! TCP and UDP by iperf3 through the router: it keeps flowing, and every packet is accounted for.

use crate::lab::{Lab, has};

#[test]
fn tcp_and_udp_pass_and_every_packet_is_accounted_for() {
    let Some(lab) = Lab::plain(2) else { return };
    if !has("iperf3") {
        return;
    }
    for (target, more) in [("10.0.1.2", ""), ("2001:db8:1::2", ""), ("10.0.1.2", "-u -b 20M")] {
        lab.ok(
            1,
            &format!(
                "iperf3 -s -1 -D -B {target} --logfile {}/server.log; sleep 0.5",
                lab.folder().display()
            ),
        );
        let text = lab.ok(0, &format!("iperf3 -c {target} -t 2 -f m {more}"));
        assert!(text.contains("receiver"), "{text}");
        let drops = lab.drops();
        assert!(drops.sent > 1_000, "{drops:?}");
        let rate = text.lines().find(|line| line.contains("receiver")).unwrap_or_default();
        eprintln!("{target} {more}: {rate}");
    }
}
