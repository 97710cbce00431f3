//! What does not fit a frame is refused here, where its owner sees the error, not on the way to a client.

use super::super::TableError;
use crate::record::{GroupValue, OriginValue};
use crate::wire::{MAX_HOPS, MAX_NAME, MAX_OPAQUE};

pub(super) fn group(value: &GroupValue) -> Result<(), TableError> {
    let GroupValue::Hops(hops) = value else { return Ok(()) };
    at_most("next hops of a group", MAX_HOPS, hops.len())?;
    hops.iter().filter_map(|hop| hop.port.as_deref()).try_for_each(|port| name("a port", port))
}

pub(super) fn origin(value: &OriginValue) -> Result<(), TableError> {
    name("an origin", &value.name)?;
    name("an origin's server", &value.server)
}

pub(super) fn opaque(key: &[u8], value: &[u8]) -> Result<(), TableError> {
    at_most("bytes of an opaque key", MAX_OPAQUE, key.len())?;
    at_most("bytes of an opaque value", MAX_OPAQUE, value.len())
}

fn at_most(what: &'static str, limit: usize, found: usize) -> Result<(), TableError> {
    if found <= limit { Ok(()) } else { Err(TableError::TooLarge { what, limit, found }) }
}

fn name(of: &'static str, text: &str) -> Result<(), TableError> {
    if text.len() > MAX_NAME {
        return Err(TableError::LongName { of, limit: MAX_NAME, found: text.len() });
    }
    if text.chars().any(char::is_control) { Err(TableError::Unprintable { of }) } else { Ok(()) }
}
