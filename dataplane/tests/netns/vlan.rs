//! A host on a VLAN sub-interface (802.1Q), beside the untagged ones.

use crate::lab::{Lab, Running, has};

/// What a kernel without 802.1Q interfaces lacks, in a program: an interface whose frames go out of e0 with a tag, and come from there
/// without. The kernel takes the tag off what a packet socket receives, and says which it was beside it (packet(7), PACKET_AUXDATA).
const TAGGED: &str = r#"
import fcntl, os, select, socket, struct, sys
vlan, mac = int(sys.argv[1]), open('/sys/class/net/e0/address').read().strip()
name = 'e0.%d' % vlan
tap = os.open('/dev/net/tun', os.O_RDWR)
fcntl.ioctl(tap, 0x400454ca, struct.pack('16sH22x', name.encode(), 0x1002))
os.system('ip link set %s address %s mtu 1496 up && ethtool -K %s tx off rx off >/dev/null 2>&1' % (name, mac, name))
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
wire.setsockopt(263, 8, 1)
wire.bind(('e0', 0))
print('ready', flush=True)
while True:
    for ready in select.select([tap, wire], [], [])[0]:
        if ready is tap:
            frame = os.read(tap, 2048)
            wire.send(frame[:12] + struct.pack('!HH', 0x8100, vlan) + frame[12:])
            continue
        frame, beside, _, origin = wire.recvmsg(2048, 256)
        for level, kind, data in beside:
            status, tci = struct.unpack_from('I', data)[0], struct.unpack_from('H', data, 16)[0]
            if status & 16 and tci & 4095 == vlan and origin[2] != 4:
                os.write(tap, frame)
"#;

/// A tagged interface e0.N on host 1.
fn sub_interface(lab: &Lab, vlan: u16) -> Option<Running> {
    let kernel =
        format!("ip link add link e0 name e0.{vlan} type vlan id {vlan} && ip link set e0.{vlan} up");
    if lab.on(1, &kernel).0 {
        return Some(lab.in_host(1, "sleep 60"));
    }
    if !has("python3") {
        eprintln!("skipped: neither 802.1Q interfaces in this kernel nor python3");
        return None;
    }
    let file = lab.folder().join("tagged.py");
    std::fs::write(&file, TAGGED).unwrap();
    let mut running = lab.in_host(1, &format!("exec python3 {} {vlan}", file.display()));
    running.wait_for("ready");
    Some(running)
}

#[test]
fn a_host_behind_a_tag_is_reached_and_the_untagged_one_too() {
    let Some(mut lab) = Lab::new(2) else { return };
    if !has("ping") {
        return;
    }
    let sub = "[[port]]\nname = \"p1.100\"\nparent = \"p1\"\nvlan = 100\naddresses = [\"10.9.0.1/24\", \"2001:db8:9::1/64\"]\n";
    lab.start(&|_| "", sub);
    let Some(_tagged) = sub_interface(&lab, 100) else { return };
    lab.ok(1, "ip address add 10.9.0.2/24 dev e0.100 && ip -6 address add 2001:db8:9::2/64 dev e0.100 nodad");
    // Answers come back with the tag, too.
    lab.ok(1, "ip route replace default via 10.9.0.1 && ip -6 route replace default via 2001:db8:9::1");
    for target in ["10.9.0.2", "2001:db8:9::2", "10.0.1.2", "10.9.0.1"] {
        let text = lab.ok(0, &format!("ping -n -c 3 -i 0.1 -W 2 {target}"));
        assert!(text.contains("3 received"), "{text}");
    }
    let ports = lab.ports();
    assert!(ports.ports[2].rx_packets >= 6 && ports.ports[2].tx_packets >= 6, "{ports:?}");
    let Some(_other) = sub_interface(&lab, 7) else { return };
    lab.ok(1, "ip address add 10.7.0.2/24 dev e0.7; ping -n -c 1 -W 1 10.7.0.1; true");
    assert!(lab.dropped("unknown_vlan") > 0);
}
