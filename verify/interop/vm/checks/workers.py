"""Two workers: many flows reach both, by RSS where the driver has it, by software where not."""
import json

from lab import frames
from lab.check import Group, want

GROUP = Group()
FLOWS = 256
# Each worker's least share of the flows: far below half, because a hash is no counter.
LEAST = FLOWS // 8


def processed(bed):
    """Packets that each worker has sent: it is the one that took them through its pipeline, whoever received them."""
    return [worker["sent"] for worker in bed.router.ask("show workers")["workers"]]


def send_flows(bed):
    """Sends one packet of each flow from host 0; all must reach host 1."""
    with frames.Wire(bed.host0) as sender, frames.Wire(bed.host1) as receiver:
        came = set()
        for flow in range(FLOWS):
            packet = frames.ipv4(bed.host0.v4, bed.host1.v4, frames.UDP, frames.udp(1024 + flow, 9, b"flow %d." % flow))
            sender.send(frames.ethernet(bed.mac(0), sender.mac, frames.IPV4, packet))
            # In steps, so that no queue on the way is the limit.
            if flow % 32 == 31:
                while len(came) <= flow:
                    frame = receiver.receive(lambda frame: frame[12:14] == frames.IPV4 and frame[23] == frames.UDP)
                    want(frame is not None, f"{len(came)} of {flow + 1} flows came through")
                    came.add(frame[42:])


@GROUP.check("two workers: flows of a port reach both")
def flows_of_a_port_reach_both(bed):
    if bed.kind.rss:
        by = "RSS"
        bed.router.start(workers=2)
    else:
        # The worker that has the port's one queue hands flows to the other.
        by = "software"
        bed.router.start(workers=2, spread="on", rx_queues=1)
    bed.reset_hosts()
    for address in (bed.host1.v4, bed.host1.v6):
        want(bed.host0.wait_ping(address, 5 * bed.guest.time_factor) is not None, f"{address} does not answer through the router")
    before = processed(bed)
    send_flows(bed)
    grown = [now - then for now, then in zip(processed(bed), before)]
    want(len(grown) == 2 and min(grown) >= LEAST, lambda: f"sent by worker: {grown}\n" + json.dumps(bed.router.ask("show workers"), indent=1))
    return f"{grown[0]} and {grown[1]} packets, by {by}"
