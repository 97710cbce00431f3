"""The files of packaging/examples start as they are, by the shipped units, with as many hugepages as they ask for."""
import os
import re

from lab.check import Group, want

GROUP = Group()
EXAMPLES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../../packaging/examples")
# Name of the unit, its configuration, the example, the node's name in it.
DAEMONS = (
    ("fibcast-dataplane", "dataplane", "dataplane", "nh-1"),
    ("fibcast-agent", "agent", "agent", "relay-1"),
    ("fibcast-route-server", "route-server", "route-server-live", "rs-a"),
)


def example(name):
    with open(os.path.join(EXAMPLES, f"{name}.toml"), encoding="utf-8") as file:
        return file.read()


def start(bed, unit, config, text, node):
    """Starts a daemon by its unit with this file, and waits until it answers."""
    bed.guest.write(f"/etc/fibcast/{config}.toml", text)
    answers = f"fibcast --socket /run/fibcast/{node}.sock show status >/dev/null 2>&1"
    code, out = bed.guest.run(f"systemctl restart {unit} && for _ in $(seq 400); do {answers} && exit 0; sleep 0.05; done; exit 1", 45)
    want(code == 0, f"{unit} does not start: {out}\n{bed.guest.run(f'journalctl -u {unit} -o cat --no-pager -q -n 30')[1]}")


@GROUP.check("example files start as they are")
def example_files_start(bed):
    bed.router.stop()
    text = example("dataplane")
    devices = re.findall(r'^device = "(0000:[^",]+)', text, re.MULTILINE)
    if bed.guest.run(f"ls -d {' '.join(f'/sys/bus/pci/devices/{device}' for device in devices)}")[0] != 0:
        # A machine with one kind of NIC has others.
        for old, new in zip(devices, bed.devices):
            text = text.replace(f'"{old}', f'"{new}')
        devices = bed.devices
    before = bed.guest.do("cat /proc/sys/vm/nr_hugepages").strip()
    drivers = [bed.guest.do(f"basename $(readlink -f /sys/bus/pci/devices/{device}/driver)").strip() for device in devices]
    wanted = re.search(r"vm\.nr_hugepages=(\d+)", text).group(1)
    try:
        bed.guest.do(f"sysctl -qw vm.nr_hugepages={wanted}; dpdk-devbind.py -b vfio-pci {' '.join(devices)}", 60)
        for unit, config, name, node in DAEMONS:
            start(bed, unit, config, text if name == "dataplane" else example(name), node)
        ports = bed.guest.do("fibcast --socket /run/fibcast/nh-1.sock show ports")
        want(ports.count(" up ") == 3, f"not all ports are up\n{ports}")
        return f"{', '.join(devices)}, {wanted} hugepages"
    finally:
        bed.guest.do(f"systemctl stop {' '.join(unit for unit, *_ in DAEMONS)}; rm -f /etc/fibcast/*.toml; sysctl -qw vm.nr_hugepages={before}", 60)
        for device, driver in zip(devices, drivers):
            bed.guest.do(f"dpdk-devbind.py -b {driver} {device}", 60)
