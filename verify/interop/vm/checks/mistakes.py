"""Wrong setups are reported briefly: port, device, and the command that fixes it; `doctor` reports nothing wrong."""
from lab import config
from lab.check import Group, want

GROUP = Group()
# Lines that EAL logs by itself on the way; the mistake is reported next to them.
EAL_LOG = ("EAL: ", "TELEMETRY: ")
MOST_LINES = 3


def refused(bed, words, devices=None, workers=1, change=lambda text: text):
    """Starts the daemon by hand with a wrong configuration: it must end by itself, with these words and little else."""
    bed.router.stop()
    bed.guest.write("/etc/fibcast/wrong.toml", change(config.dataplane(devices or bed.devices, workers)))
    code, out = bed.guest.run("fibcast-dataplane --config /etc/fibcast/wrong.toml", 30)
    want(code in (1, 2), f"exit code {code} instead of 1 or 2\n{out}")
    missing = [word for word in words if word not in out]
    want(not missing, f"the message lacks {', '.join(missing)}:\n{out}")
    errors = [line for line in out.splitlines() if line.strip() and not line.startswith(EAL_LOG)]
    want(len(errors) <= MOST_LINES, f"{len(errors)} lines for one mistake:\n{out}")


@GROUP.check("a NIC on its kernel driver")
def nic_on_its_kernel_driver(bed):
    bed.router.stop()
    device = bed.devices[1]
    bed.guest.do(f"dpdk-devbind.py -b {bed.kind.kernel_driver} {device}", 30)
    try:
        refused(bed, ["p1", device, bed.kind.kernel_driver, "dpdk-devbind.py -b vfio-pci"])
    finally:
        bed.guest.do(f"dpdk-devbind.py -b vfio-pci {device}", 30)


@GROUP.check("a NIC without a driver")
def nic_without_a_driver(bed):
    bed.router.stop()
    device = bed.devices[1]
    bed.guest.do(f"dpdk-devbind.py -u {device}", 30)
    try:
        refused(bed, ["p1", device, "dpdk-devbind.py -b vfio-pci"])
    finally:
        bed.guest.do(f"dpdk-devbind.py -b vfio-pci {device}", 30)


@GROUP.check("a wrong PCI address")
def wrong_pci_address(bed):
    refused(bed, ["p1", "0000:7f:00.0"], devices=[bed.devices[0], "0000:7f:00.0"])


@GROUP.check("a wrong core")
def wrong_core(bed):
    refused(bed, ["cores", "99"], change=lambda text: text.replace("cores = [1]", "cores = [99]"))


@GROUP.check("too few hugepages")
def too_few_hugepages(bed):
    bed.router.stop()
    pages = bed.guest.do("cat /proc/sys/vm/nr_hugepages").strip()
    bed.guest.do("sysctl -qw vm.nr_hugepages=4")
    try:
        # How much there is, in any unit: 4 pages are 8 MiB.
        refused(bed, ["hugepages", "vm.nr_hugepages=", "8 MiB"])
    finally:
        bed.guest.do(f"sysctl -qw vm.nr_hugepages={pages}", 30)


@GROUP.check("doctor while the daemon runs")
def doctor_while_the_daemon_runs(bed):
    bed.router.start()
    _, out = bed.guest.run("fibcast --socket /run/fibcast/vm.sock doctor")
    for line in out.splitlines():
        want("hugepages" not in line or line.split()[0].lower() not in ("warning", "bad", "warn"), f"finds fault with hugepages:\n{out}")
    want("noiommu" not in out, f"advises what Debian's kernel does not have:\n{out}")
