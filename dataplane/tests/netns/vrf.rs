//! VRFs: ports of one reach each other, and none of another.

use crate::lab::{Lab, has};

#[test]
fn hosts_of_two_vrfs_do_not_see_each_other() {
    let Some(mut lab) = Lab::new(3) else { return };
    if !has("ping") {
        return;
    }
    lab.start(&|host| if host == 2 { "" } else { "vrf = 7" }, "");
    let text = lab.ok(0, "ping -n -c 3 -i 0.1 -W 2 10.0.1.2");
    assert!(text.contains("3 received"), "{text}");
    let (content, text) = lab.on(0, "ping -n -c 1 -W 2 10.0.2.2");
    assert!(!content && text.contains("Destination Net Unreachable"), "{text}");
    let (content, _) = lab.on(2, "ping -n -c 1 -W 1 10.0.0.2");
    assert!(!content);
    assert!(lab.dropped("no_route") >= 2);
}
