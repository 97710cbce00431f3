"""Looking at the ports disturbs nothing; and the IOMMU refused nothing in all that went before."""
from lab.check import Group, Skipped, want

GROUP = Group()
LAST = Group()
TIMES = 60


@GROUP.check("60 x show ports while packets flow")
def show_ports_while_packets_flow(bed):
    mark = bed.router.mark()
    process = bed.host0.namespace.start(f"exec ping -q -i 0.02 -w 60 {bed.host1.v4}", stdout=-1)
    try:
        bed.guest.do(f"for _ in $(seq {TIMES}); do fibcast --socket /run/fibcast/vm.sock show ports >/dev/null || exit 1; done", 40)
    finally:
        # ping ends with its summary at an interrupt.
        process.send_signal(2)
        out, _ = process.communicate(timeout=10)
    lines = [line for line in bed.router.log(mark).splitlines() if "link is down" in line]
    want(not lines, f"{len(lines)} link-downs in the log:\n" + "\n".join(lines[:5]))
    # The last echo may be on its way when ping is interrupted.
    sent, received = (int(word.split()[0]) for word in out.split("statistics ---")[1].split(",")[:2])
    want(received >= max(sent - 1, 1), out)
    return f"{received} of {sent} echoes"


@LAST.check("no DMA faults of the IOMMU")
def no_iommu_faults(bed):
    if not bed.machine.iommu:
        raise Skipped("the machine has no IOMMU")
    faults = bed.iommu_faults()[bed.faults_before:]
    want(not faults, f"{len(faults)} lines in dmesg:\n" + "\n".join(faults[:5]))
