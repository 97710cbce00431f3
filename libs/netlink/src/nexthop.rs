//! `RTM_NEWNEXTHOP` and `RTM_DELNEXTHOP`: next-hop objects, to which routes refer by id.

use super::attribute::Attributes;
use super::bytes::{Malformed, u16_at, u32_at};
use super::kind;
use super::message::Message;
use super::route::{DEAD, Hop};
use super::writer::Writer;

/// `struct nhmsg`.
const HEADER: usize = 8;

const ID: u16 = 1;
const GROUP: u16 = 2;
const BLACKHOLE: u16 = 4;
const OUTPUT: u16 = 5;
const GATEWAY: u16 = 6;
const ENCAP_TYPE: u16 = 7;

/// `RTNH_F_ONLINK` in `nh_flags`.
const ONLINK: u32 = 4;

/// Content of a next-hop object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Definition {
    /// One next hop.
    Hop(Hop),
    /// A group: ids of other objects with their weights.
    Group(Vec<(u32, u16)>),
    /// Drop silently.
    Blackhole,
}

/// A parsed next-hop object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextHop {
    /// Its id on the sender's host.
    pub id: u32,
    /// Its content; meaningless in a deletion.
    pub definition: Definition,
}

impl NextHop {
    /// Parses a message.
    ///
    /// # Errors
    /// [`Malformed`] with the offset of what cannot be parsed.
    pub fn read(message: &Message<'_>) -> Result<Self, Malformed> {
        let wrong = |reason| Malformed { at: message.body_at(), reason };
        let Some(flags) = u32_at(message.body, 4) else {
            return Err(wrong("expected a next-hop header of 8 bytes"));
        };
        let mut id = None;
        let mut hop =
            Hop { dead: flags & u32::from(DEAD) != 0, onlink: flags & ONLINK != 0, ..Hop::new(None, 0, 1) };
        let mut group = None;
        let mut blackhole = false;
        let attributes = message.body.get(HEADER..).unwrap_or_default();
        for attribute in Attributes::new(attributes, message.body_at() + HEADER) {
            let attribute = attribute?;
            match attribute.kind {
                ID => id = Some(attribute.number()?),
                // `struct nexthop_grp`: id, weight - 1, its high byte (Linux 6.11), two reserved bytes.
                GROUP => {
                    if !attribute.value.len().is_multiple_of(8) {
                        return Err(attribute.wrong("expected entries of 8 bytes"));
                    }
                    let entry =
                        |entry: &[u8]| Some((u32_at(entry, 0)?, weight(*entry.get(4)?, *entry.get(5)?)));
                    group = Some(attribute.value.chunks_exact(8).filter_map(entry).collect());
                }
                BLACKHOLE => blackhole = true,
                OUTPUT => hop.interface = attribute.number()?,
                GATEWAY => hop.gateway = Some(attribute.address()?),
                ENCAP_TYPE => hop.encapsulated = u16_at(attribute.value, 0) != Some(0),
                _ => {}
            }
        }
        let id = id.ok_or_else(|| wrong("a next-hop object has no number"))?;
        let definition = match group {
            Some(members) => Definition::Group(members),
            None if blackhole => Definition::Blackhole,
            None => Definition::Hop(hop),
        };
        Ok(Self { id, definition })
    }

    /// Writes a request for all of them.
    pub fn dump(writer: &mut Writer, sequence: u32) {
        writer.dump(kind::GET_NEXTHOP, sequence, &[0; HEADER]);
    }
}

fn weight(low: u8, high: u8) -> u16 {
    (u16::from(high) << 8 | u16::from(low)).saturating_add(1)
}
