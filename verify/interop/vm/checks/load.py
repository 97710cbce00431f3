"""TCP through the router: no loss that TCP would have to mend."""
import json
import os

from lab.check import Failed, Group, want

GROUP = Group()
# On a quiet machine under TCG; one that is busy with other things says what it can do.
LEAST_MBITS = int(os.environ.get("FIBCAST_VM_MBITS", "200"))
SECONDS = 3


def needless(host):
    """Segments that came twice so far, as reported by receivers (RFC 2883): needless retransmissions."""
    _, out = host.run("cat /proc/net/netstat")
    names, values = (line.split() for line in out.splitlines() if line.startswith("TcpExt:"))
    return int(dict(zip(names, values))["TCPDSACKRecv"])


def transfer(bed, address, family, port):
    """Runs iperf3 from host 0 to host 1: Mbit/s, and retransmissions of what was lost.

    If the machine pauses for 200 ms, as an emulated one does, TCP retransmits delayed segments: that is not a loss.
    """
    server = bed.host1.namespace.start(f"exec timeout 60 iperf3 -s -1 {family} -p {port} >/dev/null 2>&1")
    try:
        bed.host1.run(f"for _ in $(seq 100); do ss -Hltn sport = :{port} | grep -q . && break; sleep 0.02; done")
        # The window fits into the receive rings: what is lost is the router's fault, not that of a host that sends too much at once.
        command = f"iperf3 {family} -c {address} -p {port} -t {SECONDS} -w 256K -J"
        before = needless(bed.host0)
        _, out = bed.host0.run(command, 30)
        try:
            end = json.loads(out)["end"]
            lost = end["sum_sent"]["retransmits"] - (needless(bed.host0) - before)
            return end["sum_received"]["bits_per_second"] / 1e6, max(lost, 0)
        except (ValueError, KeyError):
            raise Failed(f"host 0: {command}\n{out[-600:]}") from None
    finally:
        server.terminate()
        server.wait()


def check_transfer(bed, address, family, port):
    mbits, lost = transfer(bed, address, family, port)
    seen = f"{mbits:.0f} Mbit/s, {lost} retransmissions"
    want(mbits >= LEAST_MBITS and lost == 0, lambda: f"{seen}; wanted {LEAST_MBITS} and 0\n{counters(bed)}")
    return seen


def counters(bed):
    return bed.guest.run("fibcast --socket /run/fibcast/vm.sock show ports; fibcast --socket /run/fibcast/vm.sock show drops")[1]


@GROUP.check("TCP through the router, IPv4")
def tcp_over_ipv4(bed):
    return check_transfer(bed, bed.host1.v4, "-4", 5201)


@GROUP.check("TCP through the router, IPv6")
def tcp_over_ipv6(bed):
    return check_transfer(bed, bed.host1.v6, "-6", 5202)
