"""The router's configuration file in the machine."""

PORT = """
[[port]]
name = "{name}"
device = "{device}"
addresses = ["{v4}", "{v6}"]
mtu = {mtu}
exception_path = true
{queues}"""

# VLAN 100 on p1. Its MTU is smaller than the other port's: path MTU and fragmentation show there.
VLAN_PORT = """
[[port]]
name = "p1.100"
parent = "p1"
vlan = 100
mtu = 1400
addresses = ["203.0.113.1/24", "2001:db8:100::1/64"]

[[static_neighbor]]
port = "p1.100"
ip = "203.0.113.2"
mac = "02:00:00:00:01:02"

[[static_neighbor]]
port = "p1.100"
ip = "2001:db8:100::2"
mac = "02:00:00:00:01:02"
"""

STATIC_ROUTES = """
[[static_route]]
prefix = "10.9.0.0/16"
via = "198.51.100.2"

[[static_route]]
prefix = "2001:db8:9::/48"
via = "2001:db8:1::2"
"""

SYNC = """
[sync]
servers = [{ address = "127.0.0.1:7830", role = "primary" }]
checkpoint = "/var/lib/fibcast/vm.ckpt"
checkpoint_interval_s = 1
"""

ROUTE_SERVER = """
[node]
name = "rs"
listen = ["127.0.0.1:7830"]
control = "/run/fibcast/rs.sock"

[[source]]
origin = "static"
distance = 1
kind = "static"
path = "/etc/fibcast/routes.txt"
"""

# The routes of the static source: what STATIC_ROUTES has for a machine without servers.
ROUTES = "10.9.0.0/16 via 198.51.100.2\n2001:db8:9::/48 via 2001:db8:1::2\n"


def dataplane(devices, workers=1, mtu=1500, sync=False, spread="auto", rx_queues=None):
    """A router with two ports. Two workers share the machine's two cores with everything else in it."""
    cores = [1] if workers == 1 else [0, 1]
    text = f"""[node]
name = "vm"
control = "/run/fibcast/vm.sock"

[eal]
args = ["--in-memory"]

[workers]
cores = {cores}
idle = "sleep"
spread = "{spread}"
"""
    if sync:
        text += SYNC
    queues = f"rx_queues = {rx_queues}\n" if rx_queues else ""
    addresses = (("192.0.2.1/24", "2001:db8::1/64"), ("198.51.100.1/24", "2001:db8:1::1/64"))
    for number, (device, (v4, v6)) in enumerate(zip(devices, addresses)):
        text += PORT.format(name=f"p{number}", device=device, v4=v4, v6=v6, mtu=mtu, queues=queues)
    return text + VLAN_PORT + ("" if sync else STATIC_ROUTES)
