//! Packet buffer pools.

use std::ptr::NonNull;

use dpdk_sys as sys;

use crate::burst::Burst;
use crate::eal::Eal;
use crate::error::{Error, Result, c_string};
use crate::log;
use crate::packet::Packet;

/// Bytes kept free before the data of a fresh packet, for headers that are prepended later.
pub const HEADROOM: u16 = dpdk_sys::RTE_PKTMBUF_HEADROOM as u16;

/// A pool of mbufs. Clones refer to the same pool.
///
/// Its memory is freed when EAL is cleaned up, not before: a thread may return an mbuf at any time. So create pools at start, not per
/// connection.
#[derive(Clone, Debug)]
pub struct Mempool {
    pool: NonNull<sys::rte_mempool>,
    data_room: u16,
    size: u32,
    _eal: Eal,
}

// SAFETY: mempool operations are multi-producer and multi-consumer safe, and the caches are per thread.
unsafe impl Send for Mempool {}
// SAFETY: as above.
unsafe impl Sync for Mempool {}

impl Mempool {
    /// Creates `size` buffers with `data_room` bytes for packet data (plus [`HEADROOM`]), of which each thread caches up to `cache` (at
    /// most 512, and at most two thirds of `size`). `socket` is the NUMA node, or `None` for any. The best `size` is a power of two minus
    /// one.
    ///
    /// # Errors
    /// [`Error`] if `data_room` is out of range, memory is short, or buffers cannot be reached by DMA.
    pub fn new(
        eal: &Eal,
        name: &str,
        size: u32,
        cache: u32,
        data_room: u16,
        socket: Option<u32>,
    ) -> Result<Self> {
        let max_room = u16::MAX - HEADROOM;
        if data_room > max_room {
            return Err(Error::OutOfRange {
                subject: format!("pool {name}"),
                what: "data room",
                found: data_room.into(),
                expected: format!("at most {max_room}"),
            });
        }
        log::forget();
        // DPDK names are global and at most 25 bytes long.
        let short: String = name.chars().filter(char::is_ascii_graphic).take(14).collect();
        let unique = c_string(&format!("{short}-{}", eal.pool_number()))?;
        let socket = socket.and_then(|node| i32::try_from(node).ok()).unwrap_or(-1);
        // SAFETY: EAL is initialised, the name outlives the call, which copies it.
        let pool = unsafe { sys::fc_pool_create(unique.as_ptr(), size, cache, data_room + HEADROOM, socket) };
        let pool = NonNull::new(pool)
            .ok_or_else(|| Error::last("create packet pool", format!("{name} ({size} buffers)")))?;
        eal.adopt_pool(pool);
        // SAFETY: just made, and nobody else has a buffer of it yet.
        let unreachable = unsafe { sys::fc_pool_unreachable(pool.as_ptr()) };
        if unreachable != 0 {
            return Err(Error::NoDma { pool: name.to_owned(), unreachable, size });
        }
        Ok(Self { pool, data_room, size, _eal: eal.clone() })
    }

    /// Appends `count` empty packets to `burst`, at most as many as fit: all of them or none. Returns their number; 0 if the pool has too
    /// few left.
    pub fn allocate<const N: usize>(&self, burst: &mut Burst<N>, count: usize) -> usize {
        burst.fill(|spare| {
            let wanted = spare.len().min(count);
            let Ok(wanted_c) = u32::try_from(wanted) else { return 0 };
            // SAFETY: `spare` has room for at least `wanted` pointers, and all are written on success (0).
            let returned =
                unsafe { sys::fc_alloc_bulk(self.pool.as_ptr(), spare.as_mut_ptr().cast(), wanted_c) };
            if returned == 0 { wanted } else { 0 }
        })
    }

    /// One empty packet, or `None` if the pool is exhausted. For the slow path.
    pub fn allocate_one(&self) -> Option<Packet> {
        let mut one = Burst::<1>::new();
        self.allocate(&mut one, 1);
        one.pop()
    }

    /// Number of buffers outside of the pool: in packets, bursts and driver rings. Exact only while no other thread is active. Slow.
    pub fn in_use(&self) -> u32 {
        // SAFETY: the pool lives as long as EAL.
        unsafe { sys::rte_mempool_in_use_count(self.pool.as_ptr()) }
    }

    /// Number of buffers of the pool.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Bytes of packet data that one buffer holds, without headroom.
    pub fn data_room(&self) -> u16 {
        self.data_room
    }

    pub(crate) fn as_ptr(&self) -> *mut sys::rte_mempool {
        self.pool.as_ptr()
    }
}
