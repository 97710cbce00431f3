"""TCP through the router: no loss that TCP would have to mend."""
import json

from lab.check import Group, want

GROUP = Group()
LEAST_MBITS = 200
SECONDS = 3


def transfer(bed, address, family, port):
    """Runs iperf3 from host 0 to host 1; Mbit/s and retransmissions."""
    server = bed.host1.namespace.start(f"exec timeout 60 iperf3 -s -1 {family} -p {port} >/dev/null")
    try:
        bed.host1.run(f"for _ in $(seq 100); do ss -Hltn sport = :{port} | grep -q . && break; sleep 0.02; done")
        # The window fits into the receive rings: what is lost is the router's fault, not that of a host that sends too much at once.
        command = f"iperf3 {family} -c {address} -p {port} -t {SECONDS} -w 256K -J"
        _, out = bed.host0.run(command, 30)
        try:
            end = json.loads(out)["end"]
            return end["sum_received"]["bits_per_second"] / 1e6, end["sum_sent"]["retransmits"]
        except (ValueError, KeyError):
            want(False, f"host 0: {command}\n{out[-600:]}")
    finally:
        server.terminate()
        server.wait()


def check_transfer(bed, address, family, port):
    mbits, retransmissions = transfer(bed, address, family, port)
    seen = f"{mbits:.0f} Mbit/s, {retransmissions} retransmissions"
    want(mbits >= LEAST_MBITS and retransmissions == 0, f"{seen}; wanted {LEAST_MBITS} and 0")
    return seen


@GROUP.check("TCP through the router, IPv4")
def tcp_over_ipv4(bed):
    return check_transfer(bed, bed.host1.v4, "-4", 5201)


@GROUP.check("TCP through the router, IPv6")
def tcp_over_ipv6(bed):
    return check_transfer(bed, bed.host1.v6, "-6", 5202)
