"""QEMU's machine protocol: orders to the hypervisor, such as to pull a NIC's cable."""
import json
import socket


class QmpError(Exception):
    pass


def order(path, execute, **arguments):
    """Gives one order to the QEMU whose socket this is, and waits until it is done."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(10)
        link.connect(path)
        lines = link.makefile("rw")
        lines.readline()  # the greeting
        for message in ({"execute": "qmp_capabilities"}, {"execute": execute, "arguments": arguments}):
            lines.write(json.dumps(message) + "\n")
            lines.flush()
            while True:
                answer = json.loads(lines.readline())
                if "error" in answer:
                    raise QmpError(f"{execute} {arguments}: {answer['error']['desc']}")
                if "return" in answer:
                    break
