"""The checks: one function for each scenario, one file for each behavior.

Those of KIND run for each kind of NIC, in this order; they are grouped by the configuration that they need, because each start of the
daemon costs seconds. Those of MACHINE run once, on one kind. Those of NO_IOMMU run in a machine without an IOMMU.
"""
from . import examples, exception_path, icmp, jumbo, link, load, mistakes, no_iommu, reach, service, show_ports, unprivileged, vlan, workers

KIND = [
    *reach.GROUP.checks,
    *icmp.GROUP.checks,
    *vlan.GROUP.checks,
    *load.GROUP.checks,
    *exception_path.GROUP.checks,
    *link.GROUP.checks,
    *show_ports.GROUP.checks,
    *workers.GROUP.checks,
    *jumbo.GROUP.checks,
    *show_ports.LAST.checks,
]
MACHINE = [*service.GROUP.checks, *mistakes.GROUP.checks, *examples.GROUP.checks, *unprivileged.GROUP.checks]
NO_IOMMU = no_iommu.GROUP.checks
