//! An owned packet.

use std::slice;

use dpdk_sys as sys;

use crate::mbuf::Mbuf;

/// A packet in an mbuf, or a chain of mbufs. Dropping it returns all of its buffers to their pool.
///
/// Nothing else refers to the mbuf: the wrapper never clones one, and drivers give up what they receive. The methods below refer to the
/// first segment unless stated otherwise; drivers create more segments only if a frame exceeds the pool's data room (see
/// [`segments`](Self::segments)).
#[repr(transparent)]
pub struct Packet {
    mbuf: Mbuf,
}

// SAFETY: an mbuf belongs to whoever holds its pointer; pools accept frees from every thread.
unsafe impl Send for Packet {}
// SAFETY: `&Packet` only reads.
unsafe impl Sync for Packet {}

impl Packet {
    /// The bytes of the first segment.
    #[inline]
    pub fn data(&self) -> &[u8] {
        segment(&self.mbuf)
    }

    /// The bytes of the first segment, mutable.
    #[inline]
    pub fn data_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `data`; the buffer is owned and borrowed mutably.
        unsafe { slice::from_raw_parts_mut(self.mbuf.start(), usize::from(self.mbuf.data_len())) }
    }

    /// Length of the whole packet in bytes, all segments.
    #[inline]
    pub fn len(&self) -> usize {
        self.mbuf.pkt_len() as usize
    }

    /// Whether the packet has no data.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether [`data`](Self::data) is the whole packet.
    #[inline]
    pub fn is_contiguous(&self) -> bool {
        self.mbuf.nb_segs() == 1
    }

    /// DPDK's id of the port that received it.
    #[inline]
    pub fn port(&self) -> u16 {
        self.mbuf.port()
    }

    /// Whether the device verified the IPv4 header checksum. False means unknown: it may not have been checked.
    #[inline]
    pub fn has_good_ipv4_checksum(&self) -> bool {
        self.mbuf.ol_flags() & sys::FC_RX_IP_CKSUM_MASK == sys::FC_RX_IP_CKSUM_GOOD
    }

    /// Free bytes before the data.
    #[inline]
    pub fn headroom(&self) -> usize {
        usize::from(self.mbuf.data_off())
    }

    /// Free bytes after the data of the first segment; 0 if there are more segments.
    #[inline]
    pub fn tailroom(&self) -> usize {
        let mbuf = &self.mbuf;
        if mbuf.nb_segs() != 1 {
            return 0;
        }
        usize::from(mbuf.buf_len())
            .saturating_sub(usize::from(mbuf.data_off()) + usize::from(mbuf.data_len()))
    }

    /// Extends the data by `count` bytes at the end and returns them, with undefined content; `None` if there is no room.
    #[inline]
    pub fn append(&mut self, count: usize) -> Option<&mut [u8]> {
        if count > self.tailroom() {
            return None;
        }
        let old = usize::from(self.mbuf.data_len());
        let mbuf = &mut self.mbuf;
        // Within tailroom, hence within u16.
        mbuf.set_data_len(mbuf.data_len() + count as u16);
        mbuf.set_pkt_len(mbuf.pkt_len() + count as u32);
        self.data_mut().get_mut(old..)
    }

    /// Extends the data by `count` bytes at the front and returns them, with undefined content; `None` if there is no room.
    #[inline]
    pub fn prepend(&mut self, count: usize) -> Option<&mut [u8]> {
        if count > self.headroom() {
            return None;
        }
        let mbuf = &mut self.mbuf;
        // A segment's length is a u16 too.
        mbuf.set_data_len(mbuf.data_len().checked_add(count as u16)?);
        mbuf.set_data_off(mbuf.data_off() - count as u16);
        mbuf.set_pkt_len(mbuf.pkt_len() + count as u32);
        self.data_mut().get_mut(..count)
    }

    /// Removes `count` bytes from the front. False, without effect, if the first segment has fewer.
    #[inline]
    pub fn trim_front(&mut self, count: usize) -> bool {
        let mbuf = &mut self.mbuf;
        if count > usize::from(mbuf.data_len()) {
            return false;
        }
        mbuf.set_data_len(mbuf.data_len() - count as u16);
        mbuf.set_data_off(mbuf.data_off() + count as u16);
        mbuf.set_pkt_len(mbuf.pkt_len() - count as u32);
        true
    }

    /// Truncates a contiguous packet to `length` bytes. False, without effect, if it is segmented or shorter.
    #[inline]
    pub fn truncate(&mut self, length: usize) -> bool {
        let mbuf = &mut self.mbuf;
        if mbuf.nb_segs() != 1 || length > usize::from(mbuf.data_len()) {
            return false;
        }
        mbuf.set_data_len(length as u16);
        mbuf.set_pkt_len(length as u32);
        true
    }

    /// Replaces the data of a contiguous packet. False, without effect, if `bytes` do not fit.
    pub fn set_data(&mut self, bytes: &[u8]) -> bool {
        if !self.is_contiguous() || bytes.len() > self.data().len() + self.tailroom() {
            return false;
        }
        self.truncate(0);
        match self.append(bytes.len()) {
            Some(room) => {
                room.copy_from_slice(bytes);
                true
            }
            None => false,
        }
    }

    /// The data of each segment in order.
    pub fn segments(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::successors(Some(&self.mbuf), |mbuf| mbuf.next()).map(segment)
    }

    /// Prefetches the first cache line of its data.
    #[inline]
    pub fn prefetch(&self) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: a prefetch has no effect on memory, and the address is inside the buffer.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(self.mbuf.start().cast()) };
        }
    }
}

/// The data of one segment.
#[inline]
fn segment(mbuf: &Mbuf) -> &[u8] {
    // SAFETY: data_off + data_len is within the buffer: drivers and the methods above keep it so. The memory is mapped and was
    // written at least once (zeroed by the kernel).
    unsafe { slice::from_raw_parts(mbuf.start(), usize::from(mbuf.data_len())) }
}

impl Drop for Packet {
    fn drop(&mut self) {
        let mut mbuf = self.mbuf.as_ptr();
        // SAFETY: owned, and not used after this.
        unsafe { sys::rte_pktmbuf_free_bulk(&mut mbuf, 1) };
    }
}

impl std::fmt::Debug for Packet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packet").field("len", &self.len()).field("port", &self.port()).finish()
    }
}
