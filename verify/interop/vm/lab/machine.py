"""One virtual machine: its QEMU process, its NICs' other ends, and the channel into it."""
import ctypes
import fcntl
import os
import signal
import subprocess
import time

from . import qmp
from .guest import Guest, Hang
from .namespace import Namespace
from .nic import Nics

KVM_CREATE_VM = 0xAE01
PR_SET_PDEATHSIG = 1
# TCG runs the machine some ten times slower.
TCG_TIME_FACTOR = 4
BOOT_LIMIT = {"kvm": 60, "tcg": 300}
libc = ctypes.CDLL(None)


def accelerator():
    """kvm where the processor has it and it makes a machine, tcg where not, or what the environment asks for."""
    asked = os.environ.get("FIBCAST_VM_ACCEL", "")
    if asked not in ("", "kvm", "tcg"):
        raise SystemExit(f"FIBCAST_VM_ACCEL: expected kvm or tcg, found {asked!r}")
    if asked:
        return asked
    return "kvm" if kvm_works() else "tcg"


def kvm_works():
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        flags = next((line.split() for line in file if line.startswith("flags")), [])
    # Without these KVM may still open: it then runs paravirtualized kernels only, and Debian's never gets past its first page.
    if "vmx" not in flags and "svm" not in flags:
        return False
    try:
        fd = os.open("/dev/kvm", os.O_RDWR)
    except OSError:
        return False
    try:
        os.close(fcntl.ioctl(fd, KVM_CREATE_VM, 0))
        return True
    except OSError:
        return False
    finally:
        os.close(fd)


class Machine:
    """A booted machine. close() takes away all of it."""

    def __init__(self, root, payload, folder, kinds, iommu=True):
        """root: folder made by make-root; payload: image made by make-payload; folder: for this run's files."""
        self.folder = folder
        self.accelerator = accelerator()
        self.nics = Nics(kinds)
        self.iommu = iommu
        self.process = self.guest = None
        self.namespaces = {}
        self.began = time.monotonic()
        try:
            taps = self._make_taps()
            try:
                self._start(root, payload, taps)
            finally:
                for fd in sum(taps.values(), []):
                    os.close(fd)
            time_factor = 1 if self.accelerator == "kvm" else TCG_TIME_FACTOR
            self.guest = Guest(self._path("agent.sock"), self._ended, time_factor)
            self.wait_up()
            self.boot_seconds = time.monotonic() - self.began
        except BaseException:
            self.close()
            raise

    def _path(self, name):
        return os.path.join(self.folder, name)

    def _make_taps(self):
        taps = {}
        for kind in self.nics.kinds:
            for port in range(2):
                namespace = self.namespaces[kind.name, port] = Namespace()
                taps[kind.name, port] = namespace.tap("eth0", kind.tap_queues)
        return taps

    def _start(self, root, payload, taps):
        disk = self._path("disk.qcow2")
        subprocess.run(
            ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", os.path.join(root, "root.ext4"), disk], check=True
        )
        kvm = self.accelerator == "kvm"
        kernel = "root=/dev/vda rw console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=on hugepages=512"
        if not kvm:
            # An emulated processor's counter drifts a little, and the kernel would leave it for a slow clock. On a busy host the timer's first
            # interrupts come late, and the kernel would panic.
            kernel += " tsc=reliable clocksource=tsc no_timer_check"
        if self.iommu:
            kernel += " intel_iommu=on iommu=pt"
        command = ["qemu-system-x86_64", "-name", "fibcast-vm", "-nodefaults", "-display", "none"]
        # Interrupt remapping needs the interrupt controller in QEMU, not in KVM.
        command += ["-machine", "q35,kernel-irqchip=split" if kvm else "q35"]
        command += ["-accel", "kvm" if kvm else "tcg,thread=multi", "-smp", "2", "-m", "2560M"]
        # Under nested KVM some hosts refuse the register of arch-capabilities that they offer.
        command += ["-cpu", "host,arch-capabilities=off" if kvm else "max"]
        command += ["-kernel", os.path.join(root, "vmlinuz"), "-initrd", os.path.join(root, "initrd"), "-append", kernel]
        command += ["-chardev", f"file,id=console,path={self._path('console.log')},append=on", "-serial", "chardev:console"]
        command += ["-qmp", f"unix:{self._path('qmp.sock')},server=on,wait=off"]
        if self.iommu:
            command += ["-device", "intel-iommu,intremap=on,device-iotlb=on"]
        command += ["-drive", f"file={disk},if=none,id=root,cache=unsafe", "-device", "virtio-blk-pci,drive=root,addr=3"]
        command += ["-drive", f"file={payload},if=none,id=payload,format=raw,readonly=on", "-device", "virtio-blk-pci,drive=payload,addr=4"]
        command += ["-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng,addr=5"]
        command += ["-device", "virtio-serial-pci,addr=6", "-chardev", f"socket,id=agent,path={self._path('agent.sock')},server=on,wait=off"]
        command += ["-device", "virtserialport,chardev=agent,name=fibcast"]
        command += self.nics.arguments(taps, self.iommu)
        with open(self._path("qemu.log"), "w", encoding="utf-8") as log:
            # It ends with this process, however that ends, and not by the terminal's Ctrl-C.
            self.process = subprocess.Popen(
                command, pass_fds=sum(taps.values(), []), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
            )

    def _ended(self):
        if self.process.poll() is None:
            return None
        return f"exit code {self.process.returncode}\n{self._tail('qemu.log')}"

    def _tail(self, name, lines=15):
        try:
            with open(self._path(name), encoding="utf-8", errors="replace") as file:
                return "\n".join(file.read().splitlines()[-lines:])
        except OSError:
            return ""

    def wait_up(self):
        """Waits until the machine has booted; gives its uptime then."""
        try:
            return self.guest.wait_up(BOOT_LIMIT[self.accelerator])
        except Hang as hang:
            raise Hang(f"{hang}\nconsole:\n{self._tail('console.log')}") from None

    def namespace(self, kind, port):
        return self.namespaces[kind.name, port]

    def set_link(self, kind, port, up):
        """Pulls a NIC's cable, or plugs it in."""
        qmp.order(self._path("qmp.sock"), "set_link", name=f"{kind.name}-{port}", up=up)

    def close(self):
        if self.guest:
            self.guest.close()
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for namespace in self.namespaces.values():
            namespace.close()
