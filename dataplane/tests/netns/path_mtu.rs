//! A smaller link behind the router: hosts find the path MTU, and packets that may be fragmented arrive in pieces.

use crate::lab::{Lab, has};

fn lab() -> Option<Lab> {
    let mut lab = Lab::new(2)?;
    lab.ok_before_start();
    lab.start(&|host| if host == 1 { "mtu = 1400" } else { "" }, "");
    Some(lab)
}

impl Lab {
    fn ok_before_start(&self) {
        let (content, text) = self.on(1, "ip link set e0 mtu 1400");
        assert!(content, "{text}");
    }
}

#[test]
fn tracepath_finds_the_path_mtu() {
    let Some(lab) = lab() else { return };
    if !has("tracepath") {
        return;
    }
    for target in ["10.0.1.2", "2001:db8:1::2"] {
        let text = lab.ok(0, &format!("tracepath -n -m 4 {target}"));
        assert!(text.contains("pmtu 1400"), "{text}");
        assert!(text.lines().last().unwrap().contains("Resume: pmtu 1400 hops 2"), "{text}");
    }
}

#[test]
fn what_may_be_fragmented_arrives_in_pieces_and_what_may_not_is_refused_with_the_mtu() {
    let Some(lab) = lab() else { return };
    if !has("ping") {
        return;
    }
    let text = lab.ok(0, "ping -n -c 3 -i 0.1 -W 2 -M dont -s 1472 10.0.1.2");
    assert!(text.contains("3 received"), "{text}");
    let (_, text) = lab.on(0, "ping -n -c 1 -W 2 -M do -s 1472 10.0.1.2");
    assert!(text.contains("Frag needed and DF set (mtu = 1400)"), "{text}");
    let (_, text) = lab.on(0, "ping -6 -n -c 1 -W 2 -M do -s 1452 2001:db8:1::2");
    assert!(text.contains("Packet too big: mtu=1400"), "{text}");
}
