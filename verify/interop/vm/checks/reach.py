"""The router answers for its own addresses, finds its neighbors, and forwards."""
import json

from lab import frames
from lab.check import Group, want

GROUP = Group()


@GROUP.check("starts, one worker, MTU 1500")
def starts(bed):
    bed.bind("vfio-pci")
    bed.reset_hosts()
    bed.started = bed.router.mark()
    bed.router.start()
    up = [bed.router.wait_for_link(port, True) for port in ("p0", "p1")]
    ports = bed.router.ask("show ports")["ports"]
    want(None not in up, lambda: json.dumps(ports, indent=1))
    return ", ".join(f"{port['name']} {port['driver']}" for port in ports[:2])


@GROUP.check("says nothing twice at start")
def says_nothing_twice(bed):
    lines = bed.router.log(bed.started).splitlines()
    # DPDK has lines that belong to each of two devices; a line that is there twice in a row is one that went two ways.
    twice = [line for line, following in zip(lines, lines[1:]) if line == following]
    want(not twice, "\n".join(lines))


@GROUP.check("ping of own address")
def ping_own_address(bed):
    for host in bed.hosts:
        for address in (host.gateway4, host.gateway6):
            received, seen = host.ping(address)
            want(received == 4, seen)


@GROUP.check("answers ARP")
def answers_arp(bed):
    with frames.Wire(bed.host0) as wire:
        ask = frames.arp(frames.ARP_REQUEST, wire.mac, "192.0.2.77", bytes(6), "192.0.2.1")
        wire.send(frames.ethernet(frames.BROADCAST, wire.mac, frames.ARP, ask))
        payload = frames.arp(frames.ARP_REPLY, bed.mac(0), "192.0.2.1", wire.mac, "192.0.2.77")
        reply = wire.receive(lambda frame: frame[12:14] == frames.ARP and frame[14:42] == payload)
        want(reply is not None, "no ARP reply for 192.0.2.1 within 3 s")


@GROUP.check("answers neighbor solicitations")
def answers_neighbor_solicitations(bed):
    with frames.Wire(bed.host0) as wire:
        destination, packet = frames.neighbor_solicitation("2001:db8::77", wire.mac, "2001:db8::1")
        wire.send(frames.ethernet(destination, wire.mac, frames.IPV6, packet))

        def advertises(frame):
            return frame[12:14] == frames.IPV6 and frame[54:55] == b"\x88" and frame[62:78] == frames.v6("2001:db8::1")

        reply = wire.receive(advertises)
        want(reply is not None, "no neighbor advertisement for 2001:db8::1 within 3 s")
        want(reply[80:86] == bed.mac(0), lambda: f"another MAC address than the port's in {reply.hex()}")


@GROUP.check("finds neighbors by ARP and ND")
def finds_neighbors(bed):
    bed.reset_hosts()
    for address in (bed.host1.v4, bed.host1.v6):
        received, seen = bed.host0.ping(address, 2)
        want(received == 2, seen)
    found = bed.router.ask("show neighbors")["neighbors"]
    mac = ":".join(f"{byte:02x}" for byte in bed.host1.mac())
    for address in (bed.host1.v4, bed.host1.v6):
        want(any(entry["address"] == address and entry["mac"] == mac for entry in found), lambda: json.dumps(found, indent=1))


@GROUP.check("forwards IPv4 and IPv6")
def forwards(bed):
    for host, other in (bed.hosts, bed.hosts[::-1]):
        for address in (other.v4, other.v6):
            received, seen = host.ping(address, 10)
            want(received == 10, seen)


@GROUP.check("forwards by a static route")
def forwards_by_a_static_route(bed):
    for address in ("10.9.0.1", "2001:db8:9::1"):
        received, seen = bed.host0.ping(address)
        want(received == 4, seen)


@GROUP.check("drops frames for other stations")
def drops_frames_for_other_hosts(bed):
    with frames.Wire(bed.host0) as sender, frames.Wire(bed.host1) as receiver:
        for target, data in ((b"\x02\0\0\0\0\x99", b"stranger's"), (bed.mac(0), b"router's")):
            packet = frames.ipv4(bed.host0.v4, bed.host1.v4, frames.UDP, frames.udp(5, 6, data))
            sender.send(frames.ethernet(target, sender.mac, frames.IPV4, packet))
        # The second one tells that the first had time to come through.
        came = receiver.receive(lambda frame: b"stranger's" in frame or b"router's" in frame)
        want(came is not None and b"router's" in came, lambda: f"came through: {came and came.hex()}")
