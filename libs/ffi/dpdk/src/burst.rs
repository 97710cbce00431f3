//! A fixed-size buffer of owned packets: the unit of receiving, processing and sending.

use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};
use std::{ptr, slice};

use dpdk_sys as sys;

use crate::packet::Packet;

/// Up to `N` packets, stored inline without heap allocation. Derefs to a slice of [`Packet`]. Dropping it frees all remaining packets in
/// one call.
pub struct Burst<const N: usize = 32> {
    slots: [MaybeUninit<Packet>; N],
    /// The first `len` slots hold packets.
    len: usize,
}

impl<const N: usize> Burst<N> {
    /// An empty burst.
    pub const fn new() -> Self {
        Self { slots: [const { MaybeUninit::uninit() }; N], len: 0 }
    }

    /// `N`.
    pub const fn capacity(&self) -> usize {
        N
    }

    /// Number of packets that still fit.
    #[inline]
    pub fn room(&self) -> usize {
        N - self.len
    }

    /// Whether no more packet fits.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.len == N
    }

    /// Appends a packet.
    ///
    /// # Errors
    /// The packet itself, if the burst is full.
    #[inline]
    pub fn push(&mut self, packet: Packet) -> Result<(), Packet> {
        match self.slots.get_mut(self.len) {
            Some(slot) => {
                slot.write(packet);
                self.len += 1;
                Ok(())
            }
            None => Err(packet),
        }
    }

    /// Removes the last packet.
    #[inline]
    pub fn pop(&mut self) -> Option<Packet> {
        let last = self.len.checked_sub(1)?;
        let slot = self.slots.get(last)?;
        self.len = last;
        // SAFETY: the slot was within `len`, so it is initialised, and it no longer is within.
        Some(unsafe { slot.assume_init_read() })
    }

    /// Frees all packets in one call.
    #[inline]
    pub fn clear(&mut self) {
        let count = std::mem::take(&mut self.len);
        free(&mut self.slots[..count]);
    }

    /// Removes all packets, in order. Packets that the iterator has not yielded when dropped are freed.
    #[inline]
    pub fn drain(&mut self) -> Drain<'_> {
        let count = std::mem::take(&mut self.len);
        Drain { slots: &mut self.slots[..count], next: 0 }
    }

    /// Takes packets out by index. For bursts of up to 64 packets.
    #[inline]
    pub fn deal(&mut self) -> Deal<'_, N> {
        const { assert!(N <= 64) };
        let count = std::mem::take(&mut self.len);
        let left = if count >= 64 { u64::MAX } else { (1 << count) - 1 };
        Deal { slots: &mut self.slots, left }
    }

    /// Moves packets from the front of `other` to the end of this burst, as many as fit. Returns their number.
    pub fn append<const M: usize>(&mut self, other: &mut Burst<M>) -> usize {
        let count = self.room().min(other.len);
        // SAFETY: `count` initialised slots at the front of `other`, `count` free ones at the end of `self`,
        // two different arrays; `other` forgets them at once.
        unsafe {
            ptr::copy_nonoverlapping(other.slots.as_ptr(), self.slots.as_mut_ptr().add(self.len), count);
        }
        self.len += count;
        other.forget_front(count);
        count
    }

    /// Lets `writer` fill the free slots from the first on; it returns how many it filled.
    #[inline]
    pub(crate) fn fill(&mut self, writer: impl FnOnce(&mut [MaybeUninit<Packet>]) -> usize) -> usize {
        let added = writer(&mut self.slots[self.len..]);
        debug_assert!(added <= self.room());
        self.len += added;
        added
    }

    /// The packets in DPDK's form. The callee may take ownership of a prefix, which the caller then passes to `forget_front`.
    #[inline]
    pub(crate) fn as_mbufs(&mut self) -> (*mut *mut sys::rte_mbuf, usize) {
        // Packet is a transparent wrapper of a pointer to an mbuf.
        (self.slots.as_mut_ptr().cast(), self.len)
    }

    /// Forgets the first `count` packets, which have another owner now, and closes the gap.
    #[inline]
    pub(crate) fn forget_front(&mut self, count: usize) {
        debug_assert!(count <= self.len);
        let rest = self.len - count;
        if rest != 0 && count != 0 {
            // SAFETY: both ranges are within `slots`.
            unsafe { ptr::copy(self.slots.as_ptr().add(count), self.slots.as_mut_ptr(), rest) };
        }
        self.len = rest;
    }
}

impl<const N: usize> Default for Burst<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Deref for Burst<N> {
    type Target = [Packet];

    #[inline]
    fn deref(&self) -> &[Packet] {
        // SAFETY: the first `len` slots are initialised.
        unsafe { slice::from_raw_parts(self.slots.as_ptr().cast(), self.len) }
    }
}

impl<const N: usize> DerefMut for Burst<N> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [Packet] {
        // SAFETY: the first `len` slots are initialised. Swapping packets keeps them so.
        unsafe { slice::from_raw_parts_mut(self.slots.as_mut_ptr().cast(), self.len) }
    }
}

impl<const N: usize> Drop for Burst<N> {
    fn drop(&mut self) {
        self.clear();
    }
}

impl<const N: usize> std::fmt::Debug for Burst<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Burst").field("capacity", &N).field("packets", &&self[..]).finish()
    }
}

/// Takes packets out of a [`Burst`] by index. Packets that remain when it is dropped are freed.
#[derive(Debug)]
pub struct Deal<'a, const N: usize> {
    slots: &'a mut [MaybeUninit<Packet>; N],
    /// Bit n: the slot with index n still holds its packet.
    left: u64,
}

impl<const N: usize> Deal<'_, N> {
    /// Takes the packet with index `at`; `None` if it was taken before, or never existed.
    #[inline]
    pub fn take(&mut self, at: usize) -> Option<Packet> {
        let bit = 1u64.checked_shl(at as u32)? & self.left;
        let slot = self.slots.get(at).filter(|_| bit != 0)?;
        self.left &= !bit;
        // SAFETY: the bit shows that the slot is initialised, and is cleared so that it is read once.
        Some(unsafe { slot.assume_init_read() })
    }

    /// Appends the packets of `mask` (bit n: index n) to another burst, in order, as many as fit.
    #[inline]
    pub fn give<const M: usize>(&mut self, mask: u64, to: &mut Burst<M>) {
        let mut rest = mask & self.left;
        let mut len = to.len;
        let count = rest.count_ones() as usize;
        if rest.trailing_ones() as usize == count && count <= to.room() {
            // SAFETY: bits of `left` stand for initialised slots, here the first ones; `to` has as many free ones at its end, in another array.
            // The bits are cleared, so that each slot is read once.
            unsafe {
                ptr::copy_nonoverlapping(self.slots.as_ptr(), to.slots.as_mut_ptr().add(len), count);
            }
            to.len += count;
            self.left &= !rest;
            return;
        }
        for slot in &mut to.slots[len..] {
            if rest == 0 {
                break;
            }
            let at = rest.trailing_zeros() as usize;
            // SAFETY: bits of `left` stand for initialised slots of this array, and each is cleared below, so that it is read once.
            slot.write(unsafe { self.slots.get_unchecked(at).assume_init_read() });
            rest &= rest - 1;
            len += 1;
        }
        to.len = len;
        self.left &= !mask | rest;
    }

    /// The slots that still have their packets.
    #[inline]
    pub fn left(&self) -> u64 {
        self.left
    }
}

impl<const N: usize> Drop for Deal<'_, N> {
    #[inline]
    fn drop(&mut self) {
        while self.left != 0 {
            drop(self.take(self.left.trailing_zeros() as usize));
        }
    }
}

/// Takes packets out of a [`Burst`] in order.
#[derive(Debug)]
pub struct Drain<'a> {
    slots: &'a mut [MaybeUninit<Packet>],
    next: usize,
}

impl Iterator for Drain<'_> {
    type Item = Packet;

    #[inline]
    fn next(&mut self) -> Option<Packet> {
        let slot = self.slots.get(self.next)?;
        self.next += 1;
        // SAFETY: all slots were initialised, and `next` moves on so that each is read once.
        Some(unsafe { slot.assume_init_read() })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.slots.len() - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Drain<'_> {}

impl Drop for Drain<'_> {
    fn drop(&mut self) {
        free(&mut self.slots[self.next..]);
    }
}

/// Frees initialised slots, which are uninitialised afterwards.
#[inline]
fn free(slots: &mut [MaybeUninit<Packet>]) {
    if slots.is_empty() {
        return;
    }
    // SAFETY: the callers pass initialised slots that they have given up; a Packet is a pointer to an mbuf.
    unsafe { sys::rte_pktmbuf_free_bulk(slots.as_mut_ptr().cast(), slots.len() as u32) };
}
