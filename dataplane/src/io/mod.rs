//! The packet I/O interface of the pipeline, which therefore runs on DPDK and on plain memory alike.
//!
//! [`Io`] bundles the types of one implementation: [`memory`] for tests, `dpdk` for the daemon.

#[cfg(feature = "dpdk")]
pub mod dpdk;
pub mod memory;

/// Most packets received, looked up and processed together.
pub const BURST: usize = 64;

/// An owned packet.
pub trait Packet: Send + Sized {
    /// Its bytes from the Ethernet header on. At least the headers are contiguous.
    fn data(&self) -> &[u8];

    /// Its bytes, mutable.
    fn data_mut(&mut self) -> &mut [u8];

    /// Length of the whole frame; more than [`data`](Self::data) holds if the frame is segmented.
    fn length(&self) -> usize;

    /// Whether the device verified the IPv4 header checksum. False means unknown, not wrong.
    fn has_good_ipv4_checksum(&self) -> bool {
        false
    }

    /// Copies the whole frame to `to`. False, with undefined content, if their lengths differ.
    fn copy_to(&self, to: &mut [u8]) -> bool {
        let same = self.data().len() == to.len();
        if same {
            to.copy_from_slice(self.data());
        }
        same
    }

    /// Prefetches its first bytes.
    fn prefetch(&self) {}

    /// Truncates the frame to `length` bytes. False, without effect, if it is shorter or segmented.
    fn truncate(&mut self, length: usize) -> bool;

    /// Prepends `count` bytes of undefined content. False, without effect, if there is no headroom.
    fn grow_front(&mut self, count: usize) -> bool;

    /// Removes `count` bytes from the front. False, without effect, if there are fewer.
    fn trim_front(&mut self, count: usize) -> bool;
}

/// Up to [`BURST`] owned packets, in order.
pub trait Burst: Default + Send {
    /// The packets.
    type Packet: Packet;

    /// All packets.
    fn packets(&self) -> &[Self::Packet];

    /// All packets, mutable.
    fn packets_mut(&mut self) -> &mut [Self::Packet];

    /// Appends a packet.
    ///
    /// # Errors
    /// The packet itself, if the burst is full.
    fn push(&mut self, packet: Self::Packet) -> Result<(), Self::Packet>;

    /// Takes packets out by index; those that are not taken are freed.
    fn deal(&mut self) -> impl Deal<Self>;

    /// Frees all packets.
    fn clear(&mut self);
}

/// Selects packets of a burst: bit n stands for the packet with index n.
pub type PacketMask = u64;

/// [`PacketMask`] has a bit for each packet of a burst.
const _: () = assert!(BURST <= PacketMask::BITS as usize);

/// The indices of the set bits, in order.
#[inline]
pub fn each(mut mask: PacketMask) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let at = (mask != 0).then(|| mask.trailing_zeros() as usize);
        mask &= mask.wrapping_sub(1);
        at
    })
}

/// The packets of a burst while they are distributed.
pub trait Deal<B: Burst> {
    /// Takes the packet with index `at`; `None` if it was taken before, or never existed.
    fn take(&mut self, at: usize) -> Option<B::Packet>;

    /// Appends the packets of `mask` to another burst, in order, as far as there is room.
    fn give(&mut self, mask: PacketMask, to: &mut B);

    /// The packets that were not taken yet.
    fn left(&self) -> PacketMask;
}

/// A receive queue.
pub trait Receive<B>: Send {
    /// Receives waiting packets into an empty burst; returns their number.
    fn receive(&mut self, burst: &mut B) -> usize;
}

/// A transmit queue.
pub trait Transmit<B>: Send {
    /// Passes packets to the driver, from the front; returns how many it took. The rest stays in the burst.
    fn send(&mut self, burst: &mut B) -> usize;
}

/// A source of packet buffers for the router's own packets.
pub trait Pool<P>: Send {
    /// A packet with this content; `None` if there is no buffer, or none large enough.
    fn packet(&mut self, bytes: &[u8]) -> Option<P>;
}

/// An implementation of packet I/O.
pub trait Io: 'static {
    /// Its bursts.
    type Burst: Burst;
    /// Its receive queues.
    type Rx: Receive<Self::Burst>;
    /// Its transmit queues.
    type Tx: Transmit<Self::Burst>;
    /// Its pools.
    type Pool: Pool<PacketOf<Self>>;
}

/// The packet type of an I/O implementation.
pub type PacketOf<I> = <<I as Io>::Burst as Burst>::Packet;
