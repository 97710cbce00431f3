/*
 * Where the fields of struct rte_mbuf are, as constants, and what type they have.
 *
 * Releases wrap these fields in anonymous structures and unions of their own (24.11 does, 22.11 has markers between them), and bindgen
 * names those by their position. C finds a field by its name in all of them. To use one more field, add a line here and an accessor
 * in dpdk/src/mbuf.rs.
 */
#ifndef FIBCAST_DPDK_MBUF_FIELDS_H
#define FIBCAST_DPDK_MBUF_FIELDS_H

#include <stddef.h>
#include <stdint.h>

#include <rte_mbuf.h>

/* FIELD(constant, field, type that dpdk/src/mbuf.rs reads it as) */
#define FC_MBUF_FIELDS(FIELD)                      \
	FIELD(BUF_ADDR, buf_addr, void *)          \
	FIELD(DATA_OFF, data_off, uint16_t)        \
	FIELD(NB_SEGS, nb_segs, uint16_t)          \
	FIELD(PORT, port, uint16_t)                \
	FIELD(OL_FLAGS, ol_flags, uint64_t)        \
	FIELD(PKT_LEN, pkt_len, uint32_t)          \
	FIELD(DATA_LEN, data_len, uint16_t)        \
	FIELD(BUF_LEN, buf_len, uint16_t)          \
	FIELD(NEXT, next, struct rte_mbuf *)

#define FC_MBUF_OFFSET(constant, field, type) FC_MBUF_##constant = offsetof(struct rte_mbuf, field),
enum { FC_MBUF_FIELDS(FC_MBUF_OFFSET) };

#endif
