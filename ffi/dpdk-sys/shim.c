/* DPDK's static inline functions as symbols, one call per burst. */
#include "shim.h"

/* rte_errno is a thread-local variable of the library. */
int fc_errno(void)
{
	return rte_errno;
}

uint16_t fc_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **packets, uint16_t room)
{
	return rte_eth_rx_burst(port, queue, packets, room);
}

uint16_t fc_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **packets, uint16_t count)
{
	return rte_eth_tx_burst(port, queue, packets, count);
}

int fc_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **packets, unsigned int count)
{
	return rte_pktmbuf_alloc_bulk(pool, packets, count);
}

/*
 * As rte_pktmbuf_pool_create, but without regard to page borders where virtual addresses are what devices use. That function
 * gives each packet a page of its own where pages are small (--no-huge): all headers then share a few sets of the first-level
 * cache, which holds no more than eight packets of a burst.
 */
struct rte_mempool *fc_pool_create(const char *name, unsigned int count, unsigned int cache, uint16_t data_room, int socket)
{
	struct rte_pktmbuf_pool_private private = { .mbuf_data_room_size = data_room };
	struct rte_mempool *pool;
	int error;

	if (rte_eal_iova_mode() != RTE_IOVA_VA)
		return rte_pktmbuf_pool_create(name, count, cache, 0, data_room, socket);
	pool = rte_mempool_create_empty(name, count, sizeof(struct rte_mbuf) + data_room, cache, sizeof(private), socket,
					RTE_MEMPOOL_F_NO_IOVA_CONTIG);
	if (pool == NULL)
		return NULL;
	error = rte_mempool_set_ops_byname(pool, rte_mbuf_best_mempool_ops(), NULL);
	if (error == 0) {
		rte_pktmbuf_pool_init(pool, &private);
		error = rte_mempool_populate_default(pool);
	}
	if (error < 0) {
		rte_mempool_free(pool);
		rte_errno = -error;
		return NULL;
	}
	rte_mempool_obj_iter(pool, rte_pktmbuf_init, NULL);
	return pool;
}
