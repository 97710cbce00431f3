"""The test bed of one kind of NIC: its router in the machine, a host at each of its ports."""
from .host import Host
from .router import Router


class Bed:
    def __init__(self, machine, kind):
        self.machine = machine
        self.kind = kind
        self.guest = machine.guest
        self.devices = [machine.nics.address(kind, port) for port in range(2)]
        self.router = Router(self.guest, self.devices)
        self.hosts = [Host(machine.namespace(kind, port), port) for port in range(2)]
        self.host0, self.host1 = self.hosts
        # Where the log of its first start begins.
        self.started = None
        self.faults_before = len(self.iommu_faults())

    def iommu_faults(self):
        return self.router.iommu_faults(self.kind.known_fault)

    def mac(self, port):
        """MAC address of the router's port as bytes."""
        return bytes.fromhex(self.kind.mac(port).replace(":", ""))

    def bind(self, driver):
        """Gives both NICs to this driver, now and at each boot."""
        lines = "".join(f"pci {device} {driver}\n" for device in self.devices)
        self.guest.write("/etc/dpdk/interfaces", lines)
        self.guest.do(f"modprobe {driver}; dpdk-devbind.py -b {driver} {' '.join(self.devices)}", 60)

    def reset_hosts(self, mtu=1500):
        for host in self.hosts:
            host.set_up(mtu)

    def close(self):
        """Gives the NICs back to the kernel."""
        self.router.stop()
        self.guest.do(f"dpdk-devbind.py -b {self.kind.kernel_driver} {' '.join(self.devices)}", 60)
