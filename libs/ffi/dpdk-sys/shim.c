/* DPDK's static inline functions as symbols, one call per burst. */
#include "shim.h"

#include <string.h>

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

/* With --no-huge and IOVA as VA, every virtual address is an IOVA, also across page borders. */
static void set_iova(struct rte_mempool *pool, void *unused, void *object, unsigned int index)
{
	struct rte_mbuf *mbuf = object;

	RTE_SET_USED(pool);
	RTE_SET_USED(unused);
	RTE_SET_USED(index);
	rte_mbuf_iova_set(mbuf, (rte_iova_t)(uintptr_t)mbuf->buf_addr);
}

/*
 * As rte_pktmbuf_pool_create, but packed densely without hugepages. There that function gives each packet a page of its own, so that no
 * buffer crosses a page border: all headers then share a few sets of the first-level cache, which holds no more than eight packets of a
 * burst. The flag that packs them also leaves out their IOVAs, which devices need; where IOVAs are virtual addresses they are known.
 */
struct rte_mempool *fc_pool_create(const char *name, unsigned int count, unsigned int cache, uint16_t data_room, int socket)
{
	struct rte_pktmbuf_pool_private private = { .mbuf_data_room_size = data_room };
	struct rte_mempool *pool;
	int error;

	if (rte_eal_has_hugepages() || rte_eal_iova_mode() != RTE_IOVA_VA)
		return rte_pktmbuf_pool_create(name, count, cache, 0, data_room, socket);
	pool = rte_mempool_create_empty(name, count, sizeof(struct rte_mbuf) + data_room, cache, sizeof(private), socket,
					RTE_MEMPOOL_F_NO_IOVA_CONTIG);
	if (pool == NULL)
		return NULL;
	/* Devices do use it: mlx5 and sfc register the memory of such pools only. */
	pool->flags &= ~RTE_MEMPOOL_F_NON_IO;
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
	rte_mempool_obj_iter(pool, set_iova, NULL);
	return pool;
}

/* Whether a byte has the IOVA under which EAL registered its memory segment with the devices. */
static int registered(const void *address, rte_iova_t iova)
{
	const struct rte_memseg *segment = rte_mem_virt2memseg(address, NULL);

	return segment != NULL && segment->iova != RTE_BAD_IOVA && iova == segment->iova + RTE_PTR_DIFF(address, segment->addr);
}

static void count_unreachable(struct rte_mempool *pool, void *count, void *object, unsigned int index)
{
	const struct rte_mbuf *mbuf = object;
	rte_iova_t iova = rte_mbuf_iova_get(mbuf);
	uint16_t last = mbuf->buf_len - 1;

	RTE_SET_USED(pool);
	RTE_SET_USED(index);
	if (!registered(mbuf->buf_addr, iova) || !registered(RTE_PTR_ADD(mbuf->buf_addr, last), iova + last))
		++*(unsigned int *)count;
}

/* How many buffers of a pool a device could not reach by DMA: their IOVA is none, or not that of their memory. */
unsigned int fc_pool_unreachable(struct rte_mempool *pool)
{
	unsigned int count = 0;

	rte_mempool_obj_iter(pool, count_unreachable, &count);
	return count;
}

/* The name of the bus that a device is on: "pci", "vdev". */
const char *fc_bus_name(const struct rte_device *device)
{
	const struct rte_bus *bus = device == NULL ? NULL : rte_dev_bus(device);

	return bus == NULL ? "" : rte_bus_name(bus);
}

/* The types are checked here, because bindgen sees offsets only. */
#define FC_MBUF_CHECK(constant, field, type)                                                    \
	_Static_assert(__builtin_types_compatible_p(__typeof__(((struct rte_mbuf *)0)->field), type), \
		       "struct rte_mbuf has another type of field " #field " in this release of DPDK: see mbuf_fields.h");
FC_MBUF_FIELDS(FC_MBUF_CHECK)

int fc_link_get(uint16_t port, struct fc_link *link)
{
	struct rte_eth_link raw;
	int error;

	memset(&raw, 0, sizeof(raw));
	error = rte_eth_link_get_nowait(port, &raw);
	if (error < 0)
		return error;
	link->speed_mbps = raw.link_speed == RTE_ETH_SPEED_NUM_UNKNOWN ? 0 : raw.link_speed;
	link->up = raw.link_status == RTE_ETH_LINK_UP;
	link->full_duplex = raw.link_duplex == RTE_ETH_LINK_FULL_DUPLEX;
	return 0;
}

struct rte_fib *fc_fib_create(const char *name, int routes, uint32_t second_level)
{
	struct rte_fib_conf conf;

	memset(&conf, 0, sizeof(conf));
	conf.type = RTE_FIB_DIR24_8;
	conf.max_routes = routes;
	conf.dir24_8.nh_sz = RTE_FIB_DIR24_8_4B;
	conf.dir24_8.num_tbl8 = second_level;
	return rte_fib_create(name, SOCKET_ID_ANY, &conf);
}

struct rte_fib6 *fc_fib6_create(const char *name, int routes, uint32_t second_level)
{
	struct rte_fib6_conf conf;

	memset(&conf, 0, sizeof(conf));
	conf.type = RTE_FIB6_TRIE;
	conf.max_routes = routes;
	conf.trie.nh_sz = RTE_FIB6_TRIE_4B;
	conf.trie.num_tbl8 = second_level;
	return rte_fib6_create(name, SOCKET_ID_ANY, &conf);
}
