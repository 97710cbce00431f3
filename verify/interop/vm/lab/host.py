"""A Linux host beside the router: its end of the cable is the TAP interface eth0 in a namespace."""
import json
import re
import time


class Host:
    """Host 0 is in 192.0.2.0/24 and 2001:db8::/64, host 1 in 198.51.100.0/24 and 2001:db8:1::/64; the router has the .1 and ::1."""

    SUBNETS = (("192.0.2", "2001:db8:"), ("198.51.100", "2001:db8:1:"))

    def __init__(self, namespace, number):
        self.namespace = namespace
        four, six = self.SUBNETS[number]
        self.v4, self.v6 = f"{four}.2", f"{six}:2"
        self.gateway4, self.gateway6 = f"{four}.1", f"{six}:1"
        self.number = number
        with namespace.entered():
            for scope in ("all", "default"):
                with open(f"/proc/sys/net/ipv6/conf/{scope}/accept_dad", "w", encoding="ascii") as file:
                    file.write("0")
        self.must("ip link set lo up")
        self.set_up(1500)

    def run(self, command, timeout=30):
        return self.namespace.run(command, timeout)

    def must(self, command):
        code, out = self.run(command)
        if code != 0:
            raise RuntimeError(f"host {self.number}: {command}: exit code {code}: {out}")
        return out

    def set_up(self, mtu):
        """Addresses and routes as at the start, and nothing learned: no neighbor, no path MTU."""
        orders = [
            "ip link set eth0 down", f"ip link set eth0 mtu {mtu} up",
            "ip neigh flush dev eth0", "ip addr flush dev eth0 scope global",
            f"ip addr add {self.v4}/24 dev eth0", f"ip addr add {self.v6}/64 dev eth0 nodad",
            f"ip route replace default via {self.gateway4}", f"ip -6 route replace default via {self.gateway6} dev eth0",
            "ip route flush cache", "ip -6 route flush cache",
        ]
        if self.number == 1:
            # What the router's static routes lead to.
            orders += ["ip addr replace 10.9.0.1/32 dev lo", "ip addr replace 2001:db8:9::1/128 dev lo nodad"]
        self.must(" && ".join(orders))

    def ping(self, address, count=4, options=""):
        """How many of the echoes came back, and the command with its output."""
        command = f"ping -q -c {count} -i 0.05 -W 2 {options} {address}"
        _, out = self.run(command)
        received = re.search(r"(\d+) received", out)
        return int(received.group(1)) if received else 0, f"host {self.number}: {command}\n{out.strip()}"

    def wait_ping(self, address, limit):
        """Seconds until an echo comes back, None where none does within the limit."""
        began = time.monotonic()
        while time.monotonic() - began < limit:
            code, _ = self.run(f"ping -q -c 1 -W 0.2 {address}")
            if code == 0:
                return time.monotonic() - began
        return None

    def mac(self):
        """Its MAC address as bytes."""
        links = json.loads(self.must("ip -j link show dev eth0"))
        return bytes.fromhex(links[0]["address"].replace(":", ""))
