"""A VLAN sub-interface: tags come and go with the port that a packet takes."""
import time

from lab import frames
from lab.check import Group, want

GROUP = Group()
VLAN = 100
NEIGHBOR = bytes.fromhex("020000000133")


def tagged(frame, kind):
    return frame[12:14] == frames.VLAN and int.from_bytes(frame[14:16], "big") & 0xFFF == VLAN and frame[16:18] == kind


@GROUP.check("VLAN: ARP and echo answered with the tag")
def answers_with_the_tag(bed):
    with frames.Wire(bed.host1) as wire:
        ask = frames.arp(frames.ARP_REQUEST, NEIGHBOR, "203.0.113.3", bytes(6), "203.0.113.1")
        wire.send(frames.ethernet(frames.BROADCAST, NEIGHBOR, frames.ARP, ask, VLAN))
        payload = frames.arp(frames.ARP_REPLY, bed.mac(1), "203.0.113.1", NEIGHBOR, "203.0.113.3")
        want(wire.receive(lambda frame: tagged(frame, frames.ARP) and frame[18:46] == payload), "no tagged ARP reply within 3 s")
        echo = frames.ipv4("203.0.113.3", "203.0.113.1", frames.ICMP, frames.echo_request(7, 1))
        wire.send(frames.ethernet(bed.mac(1), NEIGHBOR, frames.IPV4, echo, VLAN))
        reply = wire.receive(lambda frame: tagged(frame, frames.IPV4) and frame[27] == frames.ICMP and frame[38] == 0)
        want(reply is not None, "no tagged echo reply within 3 s")


@GROUP.check("VLAN: finds a neighbor and forwards to it")
def forwards_to_the_vlan(bed):
    with frames.Wire(bed.host0) as sender, frames.Wire(bed.host1) as wire:
        packet = frames.ipv4(bed.host0.v4, "203.0.113.4", frames.UDP, frames.udp(1, 2, b"to the VLAN"))
        sender.send(frames.ethernet(bed.mac(0), sender.mac, frames.IPV4, packet))
        asked = wire.receive(lambda frame: tagged(frame, frames.ARP) and frame[42:46] == frames.v4("203.0.113.4"))
        want(asked is not None, "no tagged ARP request for 203.0.113.4 within 3 s")
        payload = frames.arp(frames.ARP_REPLY, NEIGHBOR, "203.0.113.4", bed.mac(1), "203.0.113.1")
        wire.send(frames.ethernet(bed.mac(1), NEIGHBOR, frames.ARP, payload, VLAN))
        came = wire.receive(lambda frame: tagged(frame, frames.IPV4) and b"to the VLAN" in frame)
        want(came is not None, "the packet did not follow within 3 s")
        want(came[:6] == NEIGHBOR and came[26] == 63, lambda: f"wrong MAC address or TTL: {came.hex()}")


@GROUP.check("VLAN: takes the tag off on the way back")
def takes_the_tag_off(bed):
    with frames.Wire(bed.host1) as sender, frames.Wire(bed.host0) as receiver:
        packet = frames.ipv4("203.0.113.3", bed.host0.v4, frames.UDP, frames.udp(1, 2, b"from the VLAN"))
        sender.send(frames.ethernet(bed.mac(1), NEIGHBOR, frames.IPV4, packet, VLAN))
        came = receiver.receive(lambda frame: b"from the VLAN" in frame)
        want(came is not None, "nothing came within 3 s")
        want(came[12:14] == frames.IPV4, lambda: f"not untagged IPv4: {came.hex()}")


@GROUP.check("VLAN: an unknown one is not forwarded")
def unknown_vlan_is_not_forwarded(bed):
    with frames.Wire(bed.host1) as sender, frames.Wire(bed.host0) as receiver:
        for vlan, data in ((200, b"unknown"), (0, b"priority tag")):
            packet = frames.ipv4(bed.host1.v4, bed.host0.v4, frames.UDP, frames.udp(1, 2, data))
            sender.send(frames.ethernet(bed.mac(1), sender.mac, frames.IPV4, packet, vlan))
            time.sleep(0.05)
        # VLAN 0 only carries a priority (IEEE 802.1Q): such a frame belongs to the port itself.
        came = receiver.receive(lambda frame: b"unknown" in frame or b"priority tag" in frame)
        want(came is not None and b"priority tag" in came, lambda: f"came through: {came and came.hex()}")
