"""MTU 9000."""
from lab.check import Group, want

from .load import check_transfer

GROUP = Group()


@GROUP.check("MTU 9000: forwards")
def forwards_large_packets(bed):
    bed.router.start(mtu=9000)
    bed.reset_hosts(9000)
    want(bed.host0.wait_ping(bed.host1.v4, 5 * bed.guest.time_factor) is not None, "no echo comes back through the router")
    for host, other in (bed.hosts, bed.hosts[::-1]):
        # Around the size of one buffer too, where a packet begins to take two.
        for size in (1472, 1600, 2000, 2100, 4000, 8972):
            received, seen = host.ping(other.v4, 2, f"-M do -s {size}")
            want(received == 2, seen)
        received, seen = host.ping(other.v6, 2, "-M do -s 8952")
        want(received == 2, seen)


@GROUP.check("MTU 9000: ping of own address")
def ping_own_address(bed):
    for host in bed.hosts:
        received, seen = host.ping(host.gateway4, 2, "-M do -s 8972")
        want(received == 2, seen)


@GROUP.check("MTU 9000: TCP")
def tcp(bed):
    return check_transfer(bed, bed.host1.v4, "-4", 5203)
