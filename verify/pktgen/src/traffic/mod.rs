//! What is sent: addresses and content of frames, their sizes, and the order of destinations.
//!
//! | module | role |
//! |---|---|
//! | `address` | a destination |
//! | `signature` | the twelve bytes by which a packet is known again |
//! | `template` | a frame with everything but what differs from packet to packet |
//! | `sizes` | frame sizes, IMIX and own mixes |
//! | `frames` | the templates of all ports; writes a packet, and checks one that came back against what it must be now |
//! | `order` | which destination is next, from which port |
//! | `pcap` | frames of a capture file |

pub mod address;
pub mod frames;
pub mod order;
pub mod pcap;
pub mod signature;
pub mod sizes;
pub mod template;
