/* Where DPDK's log goes. */
#ifndef FIBCAST_DPDK_LOG_H
#define FIBCAST_DPDK_LOG_H

#include <stddef.h>
#include <stdint.h>

/* The level of what was not written to the log but to standard error. */
#define FC_LOG_STDERR 0

/* Takes bytes of the log, mostly one line; level is RTE_LOG_* or FC_LOG_STDERR. */
typedef void (*fc_log_sink)(uint32_t level, const char *bytes, size_t length);

/* Hands all that is logged from now on to the sink. 0, or -1 where there is no memory. */
int fc_log_to(fc_log_sink to);

/*
 * rte_eal_init, whose words go to the sink as well: it also writes to standard error. What it writes to standard output, the
 * usage of all its arguments, is thrown away.
 */
int fc_eal_init(int argc, char **argv);

#endif
