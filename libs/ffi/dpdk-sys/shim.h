/* What bindgen reads: DPDK's headers and the shim over its static inline functions. */
#ifndef FIBCAST_DPDK_SHIM_H
#define FIBCAST_DPDK_SHIM_H

#include <stdint.h>

#include "log.h"

#include <rte_bus.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_fib.h>
#include <rte_fib6.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_mbuf_pool_ops.h>
#include <rte_memory.h>
#include <rte_mempool.h>
#include <rte_version.h>

/* Macros with casts or shifts that bindgen cannot evaluate. */
static const uint64_t FC_RX_OFFLOAD_SCATTER = RTE_ETH_RX_OFFLOAD_SCATTER;
static const uint64_t FC_RX_OFFLOAD_RSS_HASH = RTE_ETH_RX_OFFLOAD_RSS_HASH;
static const uint64_t FC_RX_OFFLOAD_IPV4_CKSUM = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM;
static const uint64_t FC_TX_OFFLOAD_MULTI_SEGS = RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
static const uint64_t FC_TX_OFFLOAD_MBUF_FAST_FREE = RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE;
/* With a tunnel that the device knows, the outer header is the one that we route by. */
static const uint64_t FC_RX_IP_CKSUM_MASK = RTE_MBUF_F_RX_IP_CKSUM_MASK | RTE_MBUF_F_RX_OUTER_IP_CKSUM_BAD;
static const uint64_t FC_RX_IP_CKSUM_GOOD = RTE_MBUF_F_RX_IP_CKSUM_GOOD;
static const uint64_t FC_RSS_IP_L4 = RTE_ETH_RSS_IP | RTE_ETH_RSS_UDP | RTE_ETH_RSS_TCP;
static const uint32_t FC_MQ_RX_NONE = RTE_ETH_MQ_RX_NONE;
static const uint32_t FC_MQ_RX_RSS = RTE_ETH_MQ_RX_RSS;

int fc_errno(void);
/* Packet sockets that are opened from now on get fragments as they are; see fanout.c. */
void fc_no_defrag(void);
uint16_t fc_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **packets, uint16_t room);
uint16_t fc_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **packets, uint16_t count);
struct rte_mempool *fc_pool_create(const char *name, unsigned int count, unsigned int cache, uint16_t data_room, int socket);
unsigned int fc_pool_unreachable(struct rte_mempool *pool);
const char *fc_bus_name(const struct rte_device *device);
int fc_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **packets, unsigned int count);

#include "mbuf_fields.h"

/* The state of a link. struct rte_eth_link has bit fields, which newer releases keep in an anonymous union. */
struct fc_link {
	uint32_t speed_mbps; /* 0: unknown */
	uint8_t up;
	uint8_t full_duplex;
};

int fc_link_get(uint16_t port, struct fc_link *link);

/* Tables with next hops of 4 bytes: what a kind of table is made with lies in an anonymous union. */
struct rte_fib *fc_fib_create(const char *name, int routes, uint32_t second_level);
struct rte_fib6 *fc_fib6_create(const char *name, int routes, uint32_t second_level);

#endif
