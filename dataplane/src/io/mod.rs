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

    /// Takes them out in order; those that are not taken are freed.
    fn drain(&mut self) -> impl Iterator<Item = Self::Packet>;

    /// Frees all.
    fn clear(&mut self);
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
