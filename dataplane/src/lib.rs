//! Packet pipeline, neighbours and poll-mode workers.
