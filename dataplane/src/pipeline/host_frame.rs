//! Copies of frames on their way between workers and other threads, which never hold packet buffers.
//!
//! Most are short and stored in the ring itself. Those of ports with a large MTU use a buffer of a [`LongFrames`] store and return there
//! when dropped, so a worker neither allocates nor frees memory. The buffers are divided among ports as the rings are.

use std::sync::Arc;

use crossbeam_queue::ArrayQueue;

use super::fair_queue::{self, FromPort, Shares};
use crate::io::Packet;

/// Largest frame stored in a ring itself: an MTU of 1,500 and some more.
const SHORT: usize = 2_032;
/// Most long frames in flight; the exception path carries few of them.
const LONG_FRAMES: usize = 256;

/// Buffers for long frames. Clones refer to the same store. Without jumbo ports it is empty.
#[derive(Debug, Clone)]
pub struct LongFrames {
    store: Arc<Store>,
    longest: usize,
}

#[derive(Debug)]
struct Store {
    free: ArrayQueue<Box<[u8]>>,
    shares: Shares,
}

impl Default for LongFrames {
    fn default() -> Self {
        LongFrames::with(1, SHORT)
    }
}

impl LongFrames {
    /// For frames of up to `longest` bytes.
    pub fn new(longest: usize) -> LongFrames {
        if longest <= SHORT {
            return LongFrames::default();
        }
        let frames = LongFrames::with(LONG_FRAMES, longest);
        for _ in 0..LONG_FRAMES {
            let _ = frames.store.free.push(vec![0; longest].into_boxed_slice());
        }
        frames
    }

    fn with(room: usize, longest: usize) -> LongFrames {
        let store = Store { free: ArrayQueue::new(room), shares: Shares::default() };
        LongFrames { store: Arc::new(store), longest }
    }

    /// Whether a frame of the largest length that comes from this port can be copied now.
    pub fn has_room(&self, from: u16) -> bool {
        let Store { free, shares } = &*self.store;
        self.longest <= SHORT
            || fair_queue::has_room(shares.held(from), free.capacity() - free.len(), free.capacity())
    }

    /// Length of the longest frame in bytes.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// Copies a frame for port `port` that takes the share of port `from`; `None` if it is too long, or too many long ones are in flight.
    pub fn copy(&self, port: u16, from: u16, frame: &[u8]) -> Option<HostFrame> {
        self.fill(port, from, frame.len(), |room| {
            room.copy_from_slice(frame);
            true
        })
    }

    /// Copies a packet with all of its segments.
    pub fn copy_packet<P: Packet>(&self, port: u16, from: u16, packet: &P) -> Option<HostFrame> {
        self.fill(port, from, packet.length(), |room| packet.copy_to(room))
    }

    fn fill(
        &self,
        port: u16,
        from: u16,
        length: usize,
        fill: impl FnOnce(&mut [u8]) -> bool,
    ) -> Option<HostFrame> {
        let mut bytes = if length <= SHORT {
            Bytes::Short([0; SHORT])
        } else if length <= self.longest && self.has_room(from) {
            let bytes = self.store.free.pop()?;
            self.store.shares.take(from);
            Bytes::Long(Long { bytes, from, frames: self.clone() })
        } else {
            return None;
        };
        if !fill(bytes.as_mut().get_mut(..length)?) {
            return None;
        }
        Some(HostFrame { port, from, routed: false, length: length as u16, bytes })
    }
}

/// A frame on its way between a worker and another thread.
#[derive(Debug)]
pub struct HostFrame {
    /// Index of the port of arrival or departure.
    pub port: u16,
    /// Index of the port that it came from, whose share of a ring it takes.
    pub from: u16,
    /// On output: to be routed by the table, which also supplies the MAC addresses.
    pub routed: bool,
    length: u16,
    bytes: Bytes,
}

impl FromPort for HostFrame {
    fn port_of_share(&self) -> u16 {
        self.from
    }
}

#[expect(clippy::large_enum_variant, reason = "the large one is the usual one, and must not be allocated")]
enum Bytes {
    Short([u8; SHORT]),
    Long(Long),
}

impl Bytes {
    fn as_ref(&self) -> &[u8] {
        match self {
            Bytes::Short(bytes) => bytes,
            Bytes::Long(long) => &long.bytes,
        }
    }

    fn as_mut(&mut self) -> &mut [u8] {
        match self {
            Bytes::Short(bytes) => bytes,
            Bytes::Long(long) => &mut long.bytes,
        }
    }
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if matches!(self, Bytes::Short(_)) { "Short" } else { "Long" })
    }
}

/// A buffer that returns to its store when dropped.
struct Long {
    bytes: Box<[u8]>,
    from: u16,
    frames: LongFrames,
}

impl Drop for Long {
    fn drop(&mut self) {
        // The store has room for all of its buffers.
        let _ = self.frames.store.free.push(std::mem::take(&mut self.bytes));
        self.frames.store.shares.release(self.from);
    }
}

impl HostFrame {
    /// Copies a frame of usual length; `None` if it is longer.
    pub fn new(port: u16, frame: &[u8]) -> Option<HostFrame> {
        let mut bytes = [0; SHORT];
        bytes.get_mut(..frame.len())?.copy_from_slice(frame);
        Some(HostFrame {
            port,
            from: port,
            routed: false,
            length: frame.len() as u16,
            bytes: Bytes::Short(bytes),
        })
    }

    /// An answer to this frame, by the same port and from its share; a long one uses a buffer of the same store.
    pub fn answer(&self, frame: &[u8]) -> Option<HostFrame> {
        match &self.bytes {
            Bytes::Short(_) => {
                HostFrame::new(self.port, frame).map(|answer| HostFrame { from: self.from, ..answer })
            }
            Bytes::Long(long) => long.frames.copy(self.port, self.from, frame),
        }
    }

    /// Marks it as a packet of the router itself that is routed by the table.
    pub fn routed(self) -> HostFrame {
        HostFrame { routed: true, ..self }
    }

    /// The frame from its Ethernet header on.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.as_ref().get(..usize::from(self.length)).unwrap_or_default()
    }

    /// The frame, mutable.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.bytes.as_mut().get_mut(..usize::from(self.length)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_frames_need_a_store_and_their_buffers_go_back_to_it() {
        let long = vec![7; 9_014];
        assert!(HostFrame::new(0, &long).is_none() && LongFrames::default().copy(0, 0, &long).is_none());
        let frames = LongFrames::new(9_014);
        for _ in 0..3 {
            let all: Vec<HostFrame> = (0..LONG_FRAMES).filter_map(|_| frames.copy(3, 3, &long)).collect();
            assert_eq!(all.len(), LONG_FRAMES / 2, "a port's share");
            assert!(all.iter().all(|frame| frame.bytes() == long && frame.port == 3));
            assert!(frames.copy(3, 3, &long).is_none() && !frames.has_room(3), "all are on their way");
            assert!(frames.copy(3, 3, &long[..100]).is_some(), "short ones need none");
            let other: Vec<HostFrame> = (0..16).filter_map(|_| frames.copy(3, 4, &long)).collect();
            assert_eq!(other.len(), 16, "another port has its own share, whoever is to have the frames");
        }
        assert!(frames.copy(0, 0, &[0; 9_015]).is_none() && frames.has_room(3));
        assert!(LongFrames::default().has_room(0));
    }

    #[test]
    fn the_answer_to_a_long_frame_may_be_as_long() {
        let frames = LongFrames::new(4_000);
        let question = frames.copy(1, 2, &[1; 3_000]).unwrap();
        let answer = question.answer(&[2; 4_000]).unwrap().routed();
        assert!(answer.routed && (answer.port, answer.from) == (1, 2) && answer.bytes() == [2; 4_000]);
        let short = frames.copy(1, 2, &[1; 60]).unwrap();
        assert_eq!(short.answer(&[2; 2_000]).map(|answer| (answer.port, answer.from)), Some((1, 2)));
        assert!(short.answer(&[2; 3_000]).is_none());
    }
}
