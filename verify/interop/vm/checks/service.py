"""The life of the service: restart, kill, reboot. Its routes come from a route server in the same machine."""
import re
import time

from lab import config
from lab.check import Group, want

GROUP = Group()
# What these routes lead to, behind host 1.
TARGETS = ("10.9.0.1", "2001:db8:9::1")
LIMIT = 20


def wait_forwarding(bed, limit=LIMIT):
    """Seconds until packets go by the server's routes, in both families."""
    began = time.monotonic()
    for target in TARGETS:
        waited = bed.host0.wait_ping(target, limit * bed.guest.time_factor)
        want(waited is not None, f"{target} does not answer through the router within {limit * bed.guest.time_factor} s\n{bed.guest.run('fibcast --socket /run/fibcast/vm.sock show status')[1]}")
    return time.monotonic() - began


def leftovers(bed):
    """What the exception path keeps in the kernel: rules and TAP interfaces."""
    return bed.guest.do("ip rule; ip -6 rule; ip -br link | sed -n 's/^\\(fc-[^ ]*\\).*/\\1/p' | sort")


def gap_while(bed, command):
    """Runs a command in the machine while host 0 pings; the seconds without an answer."""
    interval = 0.02
    process = bed.host0.namespace.start(f"exec ping -q -i {interval} -w 120 {TARGETS[0]}", stdout=-1)
    try:
        bed.guest.do(command, 60)
        wait_forwarding(bed)
        time.sleep(0.3)
    finally:
        process.send_signal(2)
        out, _ = process.communicate(timeout=10)
    sent, received = map(int, re.search(r"(\d+) packets transmitted, (\d+) received", out).groups())
    return (sent - received) * interval


@GROUP.check("forwards by a route server's routes")
def forwards_by_a_route_server(bed):
    bed.bind("vfio-pci")
    bed.reset_hosts()
    bed.guest.write("/etc/fibcast/routes.txt", config.ROUTES)
    bed.guest.write("/etc/fibcast/route-server.toml", config.ROUTE_SERVER)
    bed.guest.do("systemctl start fibcast-route-server", 30)
    bed.router.start(sync=True)
    wait_forwarding(bed)


@GROUP.check("systemctl restart")
def systemctl_restart(bed):
    before, faults = leftovers(bed), len(bed.iommu_faults())
    gap = gap_while(bed, "systemctl restart fibcast-dataplane")
    after = leftovers(bed)
    want(before == after, f"before:\n{before}\nafter:\n{after}")
    refused = bed.iommu_faults()[faults:]
    want(not refused, "DMA after the ports were closed:\n" + "\n".join(refused[:5]))
    return f"{gap:.1f} s without forwarding"


@GROUP.check("kill -9: nothing left over, forwards again")
def kill_nine(bed):
    before = leftovers(bed)
    gap = gap_while(bed, "systemctl kill -s KILL fibcast-dataplane")
    after = leftovers(bed)
    want(before == after, f"before:\n{before}\nafter:\n{after}")
    return f"{gap:.1f} s without forwarding"


@GROUP.check("reboot: forwards by its checkpoint")
def reboot(bed):
    bed.guest.do("for _ in $(seq 200); do [ -s /var/lib/fibcast/vm.ckpt ] && break; sleep 0.05; done; [ -s /var/lib/fibcast/vm.ckpt ]", 30)
    # The server does not come back: what forwards after the boot is the checkpoint.
    bed.guest.do("systemctl stop fibcast-route-server; systemctl enable fibcast-dataplane; sync", 30)
    bed.guest.reboot()
    bed.machine.wait_up()
    waited = wait_forwarding(bed, 60)
    status = bed.router.ask("show status")
    want(status["stale"], f"a server answered: {status['sync']}")
    bed.guest.do("systemctl disable fibcast-dataplane", 30)
    return f"{waited:.1f} s after the boot"
