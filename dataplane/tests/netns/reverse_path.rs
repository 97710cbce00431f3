//! Strict reverse-path check: a host cannot send from an address that is elsewhere.

use crate::lab::{Lab, has};

#[test]
fn a_forged_source_goes_no_further() {
    let Some(mut lab) = Lab::new(2) else { return };
    if !has("ping") {
        return;
    }
    lab.start(&|host| if host == 0 { "reverse_path = \"strict\"" } else { "" }, "");
    lab.ok(0, "ip address add 172.31.0.5/32 dev lo");
    lab.ok(0, "ping -n -c 2 -i 0.1 -W 2 10.0.1.2");
    let (content, _) = lab.on(0, "ping -n -c 3 -i 0.1 -W 1 -I 172.31.0.5 10.0.1.2");
    assert!(!content);
    assert_eq!(lab.dropped("reverse_path"), 3);
}
