"""The exception path: programs of the machine's kernel use a port's addresses through its TAP interface."""
from lab.check import Group, want

GROUP = Group()
BYTES = 3_000_000


@GROUP.check("exception path: TCP to a server in the machine")
def tcp_to_a_server_in_the_machine(bed):
    bed.guest.do(
        f"mkdir -p /srv/web && head -c {BYTES} /dev/urandom > /srv/web/blob"
        " && systemd-run -q --unit web --collect python3 -m http.server 8080 --bind 192.0.2.1 --directory /srv/web"
        " && for _ in $(seq 200); do ss -Hltn sport = :8080 | grep -q . && break; sleep 0.05; done"
    )
    try:
        expected = bed.guest.do("sha256sum < /srv/web/blob").split()[0]
        command = "curl -sS --max-time 40 http://192.0.2.1:8080/blob | sha256sum"
        _, out = bed.host0.run(command, 45)
        want(expected in out, f"host 0: {command}\nexpected {expected}\n{out}")
    finally:
        bed.guest.run("systemctl stop web")


@GROUP.check("exception path: ping out of the machine")
def ping_out_of_the_machine(bed):
    # With a source, as a routing daemon binds to it; without one; and beyond the port's subnet.
    for arguments in (
        f"-I 192.0.2.1 {bed.host0.v4}", bed.host0.v4, bed.host0.v6, bed.host1.v4, bed.host1.v6, f"-I 192.0.2.1 {bed.host1.v4}",
    ):
        command = f"ping -q -c 3 -i 0.1 -W 2 {arguments}"
        _, out = bed.guest.run(command)
        want(" 3 received" in out, f"in the machine: {command}\n{out}")


@GROUP.check("exception path: large ping in fragments")
def large_ping_in_fragments(bed):
    for address in (bed.host0.gateway4, bed.host0.gateway6):
        received, seen = bed.host0.ping(address, 3, "-s 3000 -M dont")
        want(received == 3, seen)
