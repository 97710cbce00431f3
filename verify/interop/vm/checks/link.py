"""A cable that is pulled and plugged in again."""

from lab.check import Group, want

GROUP = Group()
LIMIT = 5


@GROUP.check("link down and up")
def link_down_and_up(bed):
    received, seen = bed.host0.ping(bed.host1.v4)
    want(received == 4, seen)
    bed.machine.set_link(bed.kind, 1, False)
    try:
        down = bed.router.wait_for_link("p1", False)
        want(down is not None, f"show ports still says up {LIMIT} s after the cable was pulled")
        received, seen = bed.host0.ping(bed.host1.v4, 2)
        want(received == 0, f"answers without a cable\n{seen}")
    finally:
        bed.machine.set_link(bed.kind, 1, True)
    up = bed.router.wait_for_link("p1", True)
    want(up is not None, f"show ports still says down {LIMIT} s after the cable was plugged in")
    again = bed.host0.wait_ping(bed.host1.v4, LIMIT * bed.guest.time_factor)
    want(again is not None, f"forwards nothing {LIMIT} s after the link was reported up")
    return f"down seen after {down:.1f} s, up after {up:.1f} s, forwards {again:.1f} s later"


@GROUP.check("the TAP interface's carrier follows the link")
def carrier_follows(bed):
    # A routing daemon in the machine sees a dead link by it.
    for up in (False, True):
        bed.machine.set_link(bed.kind, 1, up)
        bed.router.wait_for_link("p1", up)
        wanted = "01"[up]
        shown = bed.guest.run(
            f"for _ in $(seq 50); do [ \"$(cat /sys/class/net/fc-p1/carrier)\" = {wanted} ] && exit; sleep 0.05; done; ip link show dev fc-p1; exit 1"
        )
        if shown[0] != 0:
            bed.machine.set_link(bed.kind, 1, True)
            bed.router.wait_for_link("p1", True)
        want(shown[0] == 0, f"carrier of fc-p1 is not {wanted} with the link {'up' if up else 'down'}\n{shown[1]}")
