"""Runs commands in the machine, over a virtio-serial port to the agent there (../guest/agent)."""
import json
import os
import socket
import time


class Hang(Exception):
    """The machine did not answer in time: it is booted again once, because QEMU's TCG hangs now and then."""


class CommandFailed(Exception):
    pass


class Guest:
    def __init__(self, path, alive, time_factor):
        """path: QEMU's socket; alive: says why QEMU ended, or None; time_factor: factor on every limit (TCG is slow)."""
        self.alive = alive
        self.time_factor = time_factor
        self.rest = b""
        # The machine's time at its last answer.
        self.now = 0.0
        self.socket = socket.socket(socket.AF_UNIX)
        end = time.monotonic() + 10
        while True:
            try:
                self.socket.connect(path)
                return
            except OSError as error:
                self._still_there()
                if time.monotonic() > end:
                    raise Hang(f"QEMU does not open {path}: {error}") from error
                time.sleep(0.05)

    def close(self):
        self.socket.close()

    def _still_there(self):
        ended = self.alive()
        if ended:
            raise Hang(f"QEMU ended: {ended}")

    def _line(self, end, what):
        while b"\n" not in self.rest:
            left = end - time.monotonic()
            if left <= 0:
                raise Hang(f"the machine did not answer in time: {what}")
            self.socket.settimeout(min(left, 1))
            try:
                got = self.socket.recv(1 << 16)
            except TimeoutError:
                self._still_there()
                continue
            except ConnectionError:
                got = b""
            if not got:
                time.sleep(0.2)
                self._still_there()
                raise Hang(f"QEMU closed the channel: {what}")
            self.rest += got
        line, self.rest = self.rest.split(b"\n", 1)
        try:
            return json.loads(line)
        except ValueError:
            # The rest of a line that a reset cut off.
            return {}

    def wait_up(self, limit):
        """Waits until the agent reports after a boot; gives the machine's uptime then."""
        end = time.monotonic() + limit
        while True:
            line = self._line(end, "boot")
            if "up" in line:
                self.now = line["now"]
                return line["up"]

    def _send(self, order):
        order["id"] = time.monotonic_ns()
        self.socket.settimeout(10)
        self.socket.sendall(json.dumps(order).encode() + b"\n")

    def reboot(self):
        """Begins a reboot. Nobody waits for the answer: the agent may be gone before it is out."""
        self._send({"run": "systemctl reboot --no-block", "timeout": 10})

    def _ask(self, order, timeout, what):
        self._send(order)
        end = time.monotonic() + timeout
        while True:
            line = self._line(end, what)
            if "up" in line:
                raise Hang(f"the machine began again by itself: {what}")
            if line.get("id") == order["id"]:
                self.now = line["now"]
                return line

    def run(self, command, timeout=20):
        """Exit code and output, errors included, of a shell command; 124 when it took longer."""
        timeout *= self.time_factor
        answer = self._ask({"run": command, "timeout": timeout}, timeout + 15 * self.time_factor, command)
        return answer["code"], answer["out"]

    def do(self, command, timeout=20):
        """Output of a command that must work."""
        code, out = self.run(command, timeout)
        if code != 0:
            raise CommandFailed(f"in the machine: {command}\nexit code {code}\n{out}")
        return out

    def write(self, path, text):
        self._ask({"write": path, "text": text}, 15 * self.time_factor, f"write {os.path.basename(path)}")

    def ask(self, what, socket_path="/run/fibcast/vm.sock", timeout=20):
        """What `fibcast --json …` answers."""
        return json.loads(self.do(f"fibcast --socket {socket_path} --json {what}", timeout))
