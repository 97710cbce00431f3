//! Bodies of `Records` frames: runs of changes, delta-encoded prefixes, labels by reference.
//!
//! A batch has one label dictionary on both sides: a label takes 8 bytes when it is first named, and is a small number from then on. Routes
//! of one kind, origin, VRF and preference share a run header. Within a run a prefix is encoded as the distance from the previous one, in
//! units of its own size, so a sorted table takes three to four bytes per route. Any order is allowed: an unsorted batch is only longer.
//!
//! `encode` and `decode` are the two directions; the tags are here.

mod decode;
mod encode;

pub use decode::Decoder;
pub use encode::Encoder;

const RUN_V4: u8 = 1;
const RUN_V6: u8 = 2;
const GROUP: u8 = 4;
const GROUP_GONE: u8 = 5;
const ORIGIN: u8 = 6;
const ORIGIN_GONE: u8 = 7;
const OPAQUE: u8 = 8;
const OPAQUE_GONE: u8 = 9;
/// Flag in a run's tag: routes of an origin; withdrawn routes.
const RIB: u8 = 16;
const GONE: u8 = 32;

const SAME_LABEL: u8 = 0x40;
const BACKWARDS: u8 = 0x80;
