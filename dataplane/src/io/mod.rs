//! What the pipeline asks of packet I/O, so that it runs on DPDK and on plain memory alike.
//!
//! [`Io`] names the types of one kind of I/O. [`memory`] is that of the tests, `dpdk` that of the binary.

#[cfg(feature = "dpdk")]
pub mod dpdk;
pub mod memory;

/// Most packets that are received, looked up and handled together.
pub const BURST: usize = 64;

/// One packet, owned.
pub trait Packet: Send + Sized {
    /// Its bytes from the Ethernet header on, at least as far as the headers go.
    fn data(&self) -> &[u8];

    /// The same, to change.
    fn data_mut(&mut self) -> &mut [u8];

    /// Length of the whole frame; more than [`data`](Self::data) has where the frame is in several buffers.
    fn length(&self) -> usize;

    /// Whether the device checked the IPv4 header checksum and found it good; false says nothing.
    fn has_good_ipv4_checksum(&self) -> bool {
        false
    }

    /// Asks the processor to fetch its first bytes.
    fn prefetch(&self) {}

    /// Cuts the frame to this length; false, and nothing done, where it is shorter or in several buffers.
    fn truncate(&mut self, length: usize) -> bool;

    /// Makes room for `count` bytes in front; false, and nothing done, where there is none. Their content is anything.
    fn grow_front(&mut self, count: usize) -> bool;

    /// Takes `count` bytes off the front; false, and nothing done, where there are fewer.
    fn trim_front(&mut self, count: usize) -> bool;
}

/// Up to [`BURST`] owned packets, in order.
pub trait Burst: Default + Send {
    /// The packets.
    type Packet: Packet;

    /// All of them.
    fn packets(&self) -> &[Self::Packet];

    /// All of them, to change.
    fn packets_mut(&mut self) -> &mut [Self::Packet];

    /// Adds one at the end, or gives it back where there is no room.
    fn push(&mut self, packet: Self::Packet) -> Result<(), Self::Packet>;

    /// Takes them out by their places; those that are not taken are freed.
    fn deal(&mut self) -> impl Deal<Self>;

    /// Frees all.
    fn clear(&mut self);
}

/// Places in a burst: bit n for the packet at place n.
pub type Places = u64;

/// [`Places`] has a bit for each packet of a burst.
const _: () = assert!(BURST <= Places::BITS as usize);

/// Each place in order.
#[inline]
pub fn each(mut places: Places) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let at = (places != 0).then(|| places.trailing_zeros() as usize);
        places &= places.wrapping_sub(1);
        at
    })
}

/// The packets of a burst while they are dealt out.
pub trait Deal<B: Burst> {
    /// Takes the packet at a place; `None` where it was taken before, or there never was one.
    fn take(&mut self, at: usize) -> Option<B::Packet>;

    /// Moves the packets at `places` to the end of another burst, in order, as many as there is room for.
    fn give(&mut self, places: Places, to: &mut B);

    /// The places that still have their packets.
    fn left(&self) -> Places;
}

/// A receive queue.
pub trait Receive<B>: Send {
    /// Adds the packets that wait to an empty burst; returns how many.
    fn receive(&mut self, burst: &mut B) -> usize;
}

/// A transmit queue.
pub trait Transmit<B>: Send {
    /// Hands packets over from the front; returns how many were taken. The others stay in the burst.
    fn send(&mut self, burst: &mut B) -> usize;
}

/// Where packets of the router's own come from.
pub trait Pool<P>: Send {
    /// A packet with this content; `None` where there is no buffer, or none large enough.
    fn packet(&mut self, bytes: &[u8]) -> Option<P>;
}

/// One kind of packet I/O.
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

/// The packets of a kind of I/O.
pub type PacketOf<I> = <<I as Io>::Burst as Burst>::Packet;
