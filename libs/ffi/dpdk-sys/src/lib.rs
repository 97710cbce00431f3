//! Raw bindings to the installed DPDK, generated when the crate is built; `dpdk` is the safe way to use them.
//!
//! Static inline functions come through `shim.c` under the prefix `fc_`. They are called once per burst.
//! Fields whose place in the bindings differs between releases come as offsets (`mbuf_fields.h`) or through the shim.

#![allow(non_camel_case_types, non_snake_case, non_upper_case_globals, missing_docs)]
#![allow(clippy::all, unsafe_op_in_unsafe_fn)]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));

pub mod releases;
