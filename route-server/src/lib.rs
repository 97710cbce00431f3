//! Sources, RIB, best path and fan-out of one routing table.
