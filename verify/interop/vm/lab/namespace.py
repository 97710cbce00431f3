"""Network namespaces without a name: they are gone with the process that holds them, however it ends."""
import contextlib
import ctypes
import fcntl
import os
import struct
import subprocess

CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TAP, IFF_MULTI_QUEUE, IFF_NO_PI, IFF_VNET_HDR = 0x2, 0x100, 0x1000, 0x4000

libc = ctypes.CDLL(None, use_errno=True)


def _call(function, *arguments):
    if function(*arguments) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{function.__name__}: {os.strerror(error)}")


class Namespace:
    def __init__(self):
        mine = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            _call(libc.unshare, CLONE_NEWNET)
            try:
                self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
            finally:
                _call(libc.setns, mine, CLONE_NEWNET)
        finally:
            os.close(mine)

    def close(self):
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None

    @contextlib.contextmanager
    def entered(self):
        """The calling thread is in the namespace meanwhile: sockets and taps that it opens belong there for good."""
        mine = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            _call(libc.setns, self.fd, CLONE_NEWNET)
            try:
                yield
            finally:
                _call(libc.setns, mine, CLONE_NEWNET)
        finally:
            os.close(mine)

    def start(self, command, **options):
        """A shell command in the namespace, running."""
        enter = ["nsenter", f"--net=/proc/self/fd/{self.fd}", "--", "bash", "-c", command]
        return subprocess.Popen(enter, pass_fds=(self.fd,), stdin=subprocess.DEVNULL, text=True, **options)

    def run(self, command, timeout=30):
        """Exit code and output, errors included, of a shell command in the namespace."""
        process = self.start(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            out, _ = process.communicate(timeout=timeout)
            return process.returncode, out
        except subprocess.TimeoutExpired:
            return 124, f"{command}: not done after {timeout} s"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, 9)
                process.communicate()

    def tap(self, name, queues):
        """File descriptors of a new TAP interface, one for each queue."""
        flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (IFF_MULTI_QUEUE if queues > 1 else 0)
        descriptors = []
        with self.entered():
            for _ in range(queues):
                fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
                fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
                descriptors.append(fd)
        return descriptors
