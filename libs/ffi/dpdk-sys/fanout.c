/*
 * Packet sockets of DPDK's af_packet driver without reassembly in the kernel.
 *
 * The driver joins its sockets to a fanout group with PACKET_FANOUT_FLAG_DEFRAG, with one queue too and without an argument against it. The
 * kernel then reassembles IPv4 fragments before the socket sees them (packet(7)), and cuts the packet to the frame of the ring. A router
 * forwards fragments as they are (RFC 791 section 2.3), so the flag is taken away.
 *
 * This definition is found before that of the C library, by the program and by the drivers that EAL loads. All other options pass through.
 */
#include "shim.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/if_packet.h>

static int no_defrag;

void fc_no_defrag(void)
{
	no_defrag = 1;
}

int setsockopt(int file, int level, int option, const void *value, socklen_t length)
{
	unsigned int fanout;

	/* The type and its flags are in the upper half, the group's number in the lower one. */
	if (no_defrag && level == SOL_PACKET && option == PACKET_FANOUT && length == sizeof(fanout) && value != NULL) {
		memcpy(&fanout, value, sizeof(fanout));
		fanout &= ~((unsigned int)PACKET_FANOUT_FLAG_DEFRAG << 16);
		value = &fanout;
	}
	return (int)syscall(SYS_setsockopt, file, level, option, value, length);
}
