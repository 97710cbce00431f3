//! Ports whose link is down, as last reported by the watch thread.
//!
//! The control thread moves groups off such a port in one of its turns, which a large batch may delay. Until then workers check here, once
//! per burst, and select another member of the group themselves.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use fibcast_fib::{Adjacency, Forward, Generation, GroupIndex, PortId};

/// Attempts to select another member for a flow before it is held.
const DRAWS: u32 = 64;

/// Link states by port index; see the module's documentation.
#[derive(Debug, Default)]
pub struct Links {
    any: AtomicBool,
    down: [AtomicU64; 4],
}

impl Links {
    /// Records that a port's link went up or down.
    pub fn set(&self, port_index: u16, up: bool) {
        let bit = 1 << (port_index & 63);
        if let Some(word) = self.down.get(usize::from(port_index >> 6)) {
            if up {
                word.fetch_and(!bit, Ordering::Release);
            } else {
                word.fetch_or(bit, Ordering::Release);
            }
        }
        let any = self.down.iter().any(|word| word.load(Ordering::Acquire) != 0);
        self.any.store(any, Ordering::Release);
    }

    /// Itself, if any link is down.
    #[inline]
    pub fn if_any_down(&self) -> Option<&Links> {
        self.any.load(Ordering::Relaxed).then_some(self)
    }

    /// Whether this port's link is down.
    pub fn is_down(&self, port: PortId) -> bool {
        let word = self.down.get(usize::from(port.0 >> 6));
        word.is_some_and(|word| word.load(Ordering::Relaxed) >> (port.0 & 63) & 1 == 1)
    }

    /// Another member for a flow whose own member is behind a link that is down.
    #[cold]
    pub fn instead<'a>(
        &self,
        generation: &'a Generation,
        group: GroupIndex,
        hash: u32,
    ) -> Option<&'a Adjacency> {
        (1..=DRAWS).find_map(|draw| {
            let hash = (hash ^ draw.wrapping_mul(0x85eb_ca6b)).wrapping_mul(0xc2b2_ae35).rotate_left(13);
            match generation.forward(group, hash) {
                Forward::Via(adjacency) if !self.is_down(adjacency.port) => Some(adjacency),
                _ => None,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_down_until_it_is_up() {
        let links = Links::default();
        assert!(links.if_any_down().is_none());
        links.set(3, false);
        links.set(200, false);
        let found = links.if_any_down().unwrap();
        assert!(found.is_down(PortId(3)) && found.is_down(PortId(200)) && !found.is_down(PortId(4)));
        assert!(!found.is_down(PortId(u16::MAX)));
        links.set(3, true);
        links.set(200, true);
        assert!(links.if_any_down().is_none());
    }
}
