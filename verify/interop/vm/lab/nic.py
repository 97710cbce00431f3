"""The kinds of NIC: what QEMU calls them, who drives them in the kernel, where they are on the PCI bus."""
from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    name: str
    model: str
    kernel_driver: str
    number: int
    # Queues of the TAP interface at the other end; the queues of the other kinds are inside QEMU's model.
    tap_queues: int = 1
    options: str = ""
    # What it needs in addition behind an IOMMU.
    iommu_options: str = ""
    # Whether QEMU's model spreads flows over its receive queues where the driver asks for it.
    rss: bool = True
    # A fault of the IOMMU that is the model's and the driver's affair; "" for none.
    known_fault: str = ""

    def mac(self, port):
        return f"52:54:00:14:{self.number:02x}:{port + 1:02x}"


KINDS = {
    kind.name: kind
    for kind in (
        # DPDK's driver for it has one queue.
        Kind("e1000e", "e1000e", "e1000e", 1, rss=False),
        Kind("igb", "igb", "igb", 2),
        # The legacy interface bypasses an IOMMU; a receive queue of 1,024, because 256 hold less than a TCP window.
        Kind(
            "virtio", "virtio-net-pci", "virtio-pci", 3, tap_queues=2,
            options=",disable-legacy=on,host_mtu=9000,mq=on,vectors=6,rx_queue_size=1024",
            iommu_options=",iommu_platform=on,ats=on",
        ),
        # The model has the queues and puts every frame into the first. DPDK's driver sends an order before it has given the device its
        # shared memory, and the model reads it at address 0.
        Kind("vmxnet3", "vmxnet3", "vmxnet3", 4, rss=False, known_fault="fault addr 0x0 "),
    )
}


class Nics:
    """The NICs of one machine, two of each kind, each behind a root port of its own: so each has an IOMMU group of its own."""

    def __init__(self, names):
        self.kinds = [KINDS[name] for name in names]

    def address(self, kind, port):
        """PCI address. The firmware numbers buses in the order of the root ports."""
        return f"0000:{self.kinds.index(kind) * 2 + port + 1:02x}:00.0"

    def arguments(self, taps, iommu):
        """QEMU's arguments; taps: file descriptors by (kind's name, port)."""
        found = []
        for place, kind in enumerate(self.kinds):
            for port in range(2):
                name = f"{kind.name}-{port}"
                fds = taps[kind.name, port]
                backend = f"fds={':'.join(map(str, fds))}" if len(fds) > 1 else f"fd={fds[0]}"
                found += ["-netdev", f"tap,id=tap-{name},{backend}"]
                slot = 0x10 + place * 2 + port
                found += ["-device", f"pcie-root-port,id=root-{name},chassis={slot},addr={slot:#x}"]
                # romfile: nobody boots from these.
                options = kind.options + (kind.iommu_options if iommu else "")
                found += ["-device", f"{kind.model},netdev=tap-{name},id={name},bus=root-{name},mac={kind.mac(port)},romfile={options}"]
        return found
