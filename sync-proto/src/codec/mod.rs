//! Bodies of `Records` frames: runs of changes, prefixes as differences, labels as references.
//!
//! A batch has one label dictionary on both sides: a label travels in 8 bytes when it is first named and as a small
//! number from then on. Routes of one kind, origin, VRF and preference share a run's header; within a run a prefix is
//! the distance from the one before it, counted in its own size, so that a sorted table takes three to four bytes per
//! route. Order is free: an unsorted batch is only longer.
//!
//! `encode` writes, `decode` reads; the tags are here.

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
/// Added to a run's tag: routes of an origin; withdrawn routes.
const RIB: u8 = 16;
const GONE: u8 = 32;

const SAME_LABEL: u8 = 0x40;
const BACKWARDS: u8 = 0x80;
