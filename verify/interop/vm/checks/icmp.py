"""ICMP errors, path MTU and fragments."""
from lab import frames
from lab.check import Group, want

GROUP = Group()
VLAN_MTU = 1400


def one_ping(bed, options, expected):
    command = f"ping -c 1 -W 2 {options}"
    _, out = bed.host0.run(command)
    want(expected in out, f"host 0: {command}\nexpected {expected!r} in\n{out}")


@GROUP.check("ICMP: net unreachable")
def net_unreachable(bed):
    one_ping(bed, "172.16.0.1", "Destination Net Unreachable")
    one_ping(bed, "2001:db8:dead::1", "Destination unreachable: No route")


@GROUP.check("ICMP: TTL and hop limit exceeded")
def time_exceeded(bed):
    one_ping(bed, f"-t 1 {bed.host1.v4}", "Time to live exceeded")
    one_ping(bed, f"-t 1 {bed.host1.v6}", "Time exceeded: Hop limit")


@GROUP.check("path MTU: fragmentation needed")
def fragmentation_needed(bed):
    one_ping(bed, "-M do -s 1472 203.0.113.2", f"Frag needed and DF set (mtu = {VLAN_MTU})")


@GROUP.check("path MTU: packet too big")
def packet_too_big(bed):
    one_ping(bed, "-M do -s 1452 2001:db8:100::2", f"Packet too big: mtu={VLAN_MTU}")


@GROUP.check("makes fragments where DF is clear")
def makes_fragments(bed):
    data = bytes(range(250)) * 5
    with frames.Wire(bed.host0) as sender, frames.Wire(bed.host1) as receiver:
        packet = frames.ipv4(bed.host0.v4, "203.0.113.2", frames.UDP, frames.udp(7, 8, data + data[:200]), ident=4711)
        sender.send(frames.ethernet(bed.mac(0), sender.mac, frames.IPV4, packet))
        found = {}
        while len(found) < 2:
            ident = (4711).to_bytes(2, "big")
            frame = receiver.receive(lambda frame: frame[12:14] == frames.VLAN and frame[22:24] == ident)
            want(frame is not None, f"{len(found)} of 2 fragments within 3 s")
            length = int.from_bytes(frame[20:22], "big")
            want(length <= VLAN_MTU, f"a fragment of {length} bytes: {frame.hex()}")
            found[int.from_bytes(frame[24:26], "big") & 0x1FFF] = frame[38:18 + length]
        whole = b"".join(found[offset] for offset in sorted(found))
        want(whole == packet[20:], f"the fragments' data differ: {len(whole)} bytes instead of {len(packet) - 20}")


@GROUP.check("forwards fragments")
def forwards_fragments(bed):
    for address in (bed.host1.v4, bed.host1.v6):
        received, seen = bed.host0.ping(address, 3, "-s 4000 -M dont")
        want(received == 3, seen)
