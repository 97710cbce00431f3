//! Safe bindings to what fibcast uses of DPDK.
