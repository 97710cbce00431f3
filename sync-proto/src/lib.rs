//! The sync protocol, sans-IO: codec, digest, table, client and server state machines.
