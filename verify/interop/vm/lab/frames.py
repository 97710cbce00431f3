"""Ethernet frames by hand, for what the hosts' kernels do not send: VLAN tags, ARP and ND of invented neighbors."""
import socket
import struct
import time

ETH_P_ALL = 3
SOL_PACKET, PACKET_AUXDATA = 263, 8
TP_STATUS_VLAN_VALID = 0x10
PACKET_OUTGOING = 4
BROADCAST = b"\xff" * 6
ARP_REQUEST, ARP_REPLY = 1, 2
IPV4, ARP, VLAN, IPV6 = b"\x08\x00", b"\x08\x06", b"\x81\x00", b"\x86\xdd"
ICMP, UDP, ICMPV6 = 1, 17, 58


class Wire:
    """A raw socket on a host's eth0. Received frames have their VLAN tag back, which the kernel hands over beside the frame."""

    def __init__(self, host):
        self.mac = host.mac()
        with host.namespace.entered():
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self.socket.bind(("eth0", ETH_P_ALL))
        self.socket.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, frame):
        self.socket.send(frame)

    def receive(self, wanted, wait=3):
        """The next frame from the cable that `wanted` says yes to, None when none comes in time."""
        end = time.monotonic() + wait
        while (left := end - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                frame, extra, _, sender = self.socket.recvmsg(1 << 16, 256)
            except TimeoutError:
                return None
            if sender[2] == PACKET_OUTGOING:
                continue
            for level, kind, data in extra:
                if (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
                    status, _, _, _, _, tag = struct.unpack("IIIHHH", data[:18])
                    if status & TP_STATUS_VLAN_VALID:
                        frame = frame[:12] + VLAN + struct.pack(">H", tag) + frame[12:]
            if wanted(frame):
                return frame
        return None


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack(">H", ~total & 0xFFFF)


def v4(address):
    return socket.inet_pton(socket.AF_INET, address)


def v6(address):
    return socket.inet_pton(socket.AF_INET6, address)


def ethernet(destination, source, kind, body, vlan=None):
    tag = b"" if vlan is None else VLAN + struct.pack(">H", vlan)
    return destination + source + tag + kind + body


def arp(operation, sender_mac, sender, target_mac, target):
    return struct.pack(">HHBBH6s4s6s4s", 1, 0x0800, 6, 4, operation, sender_mac, v4(sender), target_mac, v4(target))


def ipv4(source, destination, protocol, body, ttl=64, ident=1):
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(body), ident, 0, ttl, protocol, 0, v4(source), v4(destination))
    return head[:10] + checksum(head) + head[12:] + body


def ipv6(source, destination, protocol, body, hop_limit=64):
    return struct.pack(">IHBB16s16s", 6 << 28, len(body), protocol, hop_limit, v6(source), v6(destination)) + body


def echo_request(ident, sequence):
    body = struct.pack(">BBHHH", 8, 0, 0, ident, sequence) + bytes(range(56))
    return body[:2] + checksum(body) + body[4:]


def udp(source, destination, data):
    # A checksum of 0 says that there is none (RFC 768).
    return struct.pack(">HHHH", source, destination, 8 + len(data), 0) + data


def neighbor_solicitation(source, mac, target):
    """An ICMPv6 neighbor solicitation (RFC 4861 section 4.3) with the sender's link-layer address, as an IPv6 packet."""
    multicast = "ff02::1:ff" + v6(target)[13:].hex()[:2] + ":" + v6(target)[14:].hex()
    body = struct.pack(">BBHI16sBB6s", 135, 0, 0, 0, v6(target), 1, 1, mac)
    pseudo = v6(source) + v6(multicast) + struct.pack(">II", len(body), ICMPV6)
    body = body[:2] + checksum(pseudo + body) + body[4:]
    return b"\x33\x33" + v6(multicast)[12:], ipv6(source, multicast, ICMPV6, body, 255)
