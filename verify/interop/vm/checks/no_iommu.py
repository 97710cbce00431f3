"""A machine without an IOMMU: ports are bound to uio_pci_generic."""
from lab.check import Group, want

from .reach import forwards, ping_own_address

GROUP = Group()


@GROUP.check("without an IOMMU, by uio_pci_generic: starts")
def starts(bed):
    bed.bind("uio_pci_generic")
    bed.reset_hosts()
    bed.router.start()


@GROUP.check("without an IOMMU: forwards IPv4 and IPv6")
def forwards_both_families(bed):
    want(bed.host0.wait_ping(bed.host1.v4, 5 * bed.guest.time_factor) is not None, "no echo comes back through the router")
    forwards(bed)
    ping_own_address(bed)


@GROUP.check("without an IOMMU: doctor's advice can work")
def doctors_advice_can_work(bed):
    _, out = bed.guest.run("fibcast --socket /run/fibcast/vm.sock doctor")
    want("noiommu" not in out, f"advises what Debian's kernel does not have:\n{out}")
    want("uio_pci_generic" in out, f"does not know the ports' driver:\n{out}")
