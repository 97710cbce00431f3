"""The daemon as a user of its own, with four capabilities, by the files of packaging/systemd/unprivileged."""
from lab.check import Group, want

from .reach import forwards, ping_own_address

GROUP = Group()
CAPABILITIES = ("CAP_NET_ADMIN", 12), ("CAP_NET_RAW", 13), ("CAP_IPC_LOCK", 14), ("CAP_SYS_NICE", 23)
DROP_IN = "/etc/systemd/system/fibcast-dataplane.service.d"
INSTALL = f"""
set -e
cd /run/payload/systemd/unprivileged
install -D -m 644 fibcast-sysusers.conf /usr/lib/sysusers.d/fibcast.conf
systemd-sysusers
install -m 644 70-fibcast-vfio.rules /etc/udev/rules.d/
udevadm control --reload
udevadm trigger -s vfio
udevadm settle
install -D -m 644 fibcast-dataplane.conf {DROP_IN}/unprivileged.conf
systemctl daemon-reload
"""


@GROUP.check("as a user with four capabilities")
def as_a_user_with_four_capabilities(bed):
    bed.router.stop()
    bed.guest.do(INSTALL, 30)
    try:
        bed.router.start()
        status = bed.guest.do("cat /proc/$(systemctl show -P MainPID fibcast-dataplane)/status")
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        want(fields["Uid"].split()[0] != "0", f"runs as root:\n{status}")
        allowed = sum(1 << bit for _, bit in CAPABILITIES)
        want(int(fields["CapEff"], 16) & ~allowed == 0, f"more capabilities than the four: {fields['CapEff']}")
        bed.reset_hosts()
        want(bed.host0.wait_ping(bed.host1.v4, 5 * bed.guest.time_factor) is not None, "no echo comes back through the router")
        forwards(bed)
        ping_own_address(bed)
    finally:
        bed.router.stop()
        bed.guest.do(f"rm -r {DROP_IN}; systemctl daemon-reload; chown -R root: /var/lib/fibcast", 30)
