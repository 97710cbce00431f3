"""The router under test: fibcast-dataplane by its systemd unit in the machine."""
import time

from . import config
from .guest import CommandFailed

UNIT = "fibcast-dataplane"
# Restarts it and waits until it answers, or until the unit gave up or began again.
RESTART = f"""
systemctl reset-failed {UNIT} 2>/dev/null
systemctl restart {UNIT} || exit 1
for _ in $(seq 400); do
    fibcast --socket /run/fibcast/vm.sock show ports >/dev/null 2>&1 && exit 0
    systemctl is-active -q {UNIT} || break
    [ "$(systemctl show -P NRestarts {UNIT})" = 0 ] || break
    sleep 0.05
done
exit 1
"""


class Router:
    def __init__(self, guest, devices):
        self.guest = guest
        self.devices = devices

    def mark(self):
        """A point in the log to read from: the machine's time at its last answer."""
        return self.guest.now

    def log(self, mark=None, lines=400):
        """What the unit logged, since the mark or at the end."""
        since = f"--since @{mark:.6f}" if mark else ""
        return self.guest.run(f"journalctl --sync; journalctl -u {UNIT} -o cat --no-pager -q -n {lines} {since}")[1]

    def start(self, **settings):
        """Starts it with the settings of config.dataplane; returns when it answers."""
        self.guest.write("/etc/fibcast/dataplane.toml", config.dataplane(self.devices, **settings))
        mark = self.mark()
        code, out = self.guest.run(RESTART, 45)
        if code != 0:
            raise CommandFailed(f"{UNIT} did not start: {out}\n{self.log(mark)}")

    def stop(self):
        self.guest.do(f"systemctl stop {UNIT}", 30)

    def ask(self, what):
        return self.guest.ask(what)

    def port(self, name):
        return next(port for port in self.ask("show ports")["ports"] if port["name"] == name)

    def wait_for_link(self, name, up, limit=5):
        """Seconds until it reports this state of a port's link, None where it does not: a driver needs a while to see its link."""
        began = time.monotonic()
        while time.monotonic() - began < limit * self.guest.time_factor:
            if self.port(name)["link_up"] == up:
                return time.monotonic() - began
            time.sleep(0.1)
        return None

    def iommu_faults(self, known=""):
        """Lines in which the kernel reports DMA that the IOMMU refused, without those of a fault that is known."""
        _, out = self.guest.run("dmesg | grep 'DMAR:.*Request device'")
        return [line for line in out.splitlines() if not known or known not in line]
