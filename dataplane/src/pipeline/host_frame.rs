//! Copies of frames on their way between workers and other threads, which never hold packet buffers.
//!
//! Most are short and stored in the ring itself. Those of ports with a large MTU use a buffer of a [`LongFrames`] store and return there
//! when dropped, so a worker neither allocates nor frees memory.

use std::sync::Arc;

use crossbeam_queue::ArrayQueue;

use super::fair_queue::FromPort;
use crate::io::Packet;

/// Largest frame stored in a ring itself: an MTU of 1,500 and some more.
const SHORT: usize = 2_032;
/// Most long frames in flight; the exception path carries few of them.
const LONG_FRAMES: usize = 256;

/// Buffers for long frames. Clones refer to the same store. Without jumbo ports it is empty.
#[derive(Debug, Clone)]
pub struct LongFrames {
    store: Arc<ArrayQueue<Box<[u8]>>>,
    longest: usize,
}

impl Default for LongFrames {
    fn default() -> Self {
        LongFrames { store: Arc::new(ArrayQueue::new(1)), longest: SHORT }
    }
}

impl LongFrames {
    /// For frames of up to `longest` bytes.
    pub fn new(longest: usize) -> LongFrames {
        if longest <= SHORT {
            return LongFrames::default();
        }
        let store = ArrayQueue::new(LONG_FRAMES);
        for _ in 0..LONG_FRAMES {
            let _ = store.push(vec![0; longest].into_boxed_slice());
        }
        LongFrames { store: Arc::new(store), longest }
    }

    /// Whether a frame of the largest length can be copied now.
    pub fn has_room(&self) -> bool {
        self.longest <= SHORT || !self.store.is_empty()
    }

    /// Length of the longest frame in bytes.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// Copies a frame; `None` if it is too long, or too many long ones are in flight.
    pub fn copy(&self, port: u16, frame: &[u8]) -> Option<HostFrame> {
        self.fill(port, frame.len(), |room| {
            room.copy_from_slice(frame);
            true
        })
    }

    /// Copies a packet with all of its segments.
    pub fn copy_packet<P: Packet>(&self, port: u16, packet: &P) -> Option<HostFrame> {
        self.fill(port, packet.length(), |room| packet.copy_to(room))
    }

    fn fill(&self, port: u16, length: usize, fill: impl FnOnce(&mut [u8]) -> bool) -> Option<HostFrame> {
        let mut bytes = if length <= SHORT {
            Bytes::Short([0; SHORT])
        } else if length <= self.longest {
            Bytes::Long(Long { bytes: self.store.pop()?, frames: self.clone() })
        } else {
            return None;
        };
        if !fill(bytes.as_mut().get_mut(..length)?) {
            return None;
        }
        Some(HostFrame { port, from: port, routed: false, length: length as u16, bytes })
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
    frames: LongFrames,
}

impl Drop for Long {
    fn drop(&mut self) {
        // The store has room for all of its buffers.
        let _ = self.frames.store.push(std::mem::take(&mut self.bytes));
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

    /// An answer to this frame, by the same port; a long one uses a buffer of the same store.
    pub fn answer(&self, frame: &[u8]) -> Option<HostFrame> {
        match &self.bytes {
            Bytes::Short(_) => HostFrame::new(self.port, frame),
            Bytes::Long(long) => long.frames.copy(self.port, frame),
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
        assert!(HostFrame::new(0, &long).is_none() && LongFrames::default().copy(0, &long).is_none());
        let frames = LongFrames::new(9_014);
        for _ in 0..3 {
            let all: Vec<HostFrame> = (0..LONG_FRAMES).filter_map(|_| frames.copy(3, &long)).collect();
            assert_eq!(all.len(), LONG_FRAMES);
            assert!(all.iter().all(|frame| frame.bytes() == long && frame.port == 3));
            assert!(frames.copy(3, &long).is_none(), "all are on their way");
            assert!(frames.copy(3, &long[..100]).is_some(), "short ones need none");
        }
        assert!(frames.copy(0, &[0; 9_015]).is_none() && frames.has_room());
        let _all: Vec<HostFrame> = (0..LONG_FRAMES).filter_map(|_| frames.copy(3, &long)).collect();
        assert!(!frames.has_room() && LongFrames::default().has_room());
    }

    #[test]
    fn the_answer_to_a_long_frame_may_be_as_long() {
        let frames = LongFrames::new(4_000);
        let question = frames.copy(1, &[1; 3_000]).unwrap();
        let answer = question.answer(&[2; 4_000]).unwrap().routed();
        assert!(answer.routed && answer.port == 1 && answer.bytes() == [2; 4_000]);
        let short = frames.copy(1, &[1; 60]).unwrap();
        assert!(short.answer(&[2; 2_000]).is_some() && short.answer(&[2; 3_000]).is_none());
    }
}
