//! Raw bindings to the installed DPDK, generated at build time; `dpdk` is their safe wrapper.
//!
//! Static inline functions are exported by `shim.c` with the prefix `fc_`. They are called once per burst. Fields whose offset or name
//! differs between releases are accessed by offset (`mbuf_fields.h`) or through the shim.

#![allow(non_camel_case_types, non_snake_case, non_upper_case_globals, missing_docs)]
#![allow(clippy::all, unsafe_op_in_unsafe_fn)]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));

pub mod releases;
