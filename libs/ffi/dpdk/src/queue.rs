//! The fast path: receiving and sending bursts.

use std::sync::Arc;

use dpdk_sys as sys;

use crate::burst::Burst;
use crate::port::Started;

/// A receive queue of a started port. It has one owner, and can move between threads.
#[derive(Debug)]
pub struct RxQueue {
    port: u16,
    queue: u16,
    _started: Arc<Started>,
}

impl RxQueue {
    pub(crate) fn new(queue: u16, started: Arc<Started>) -> Self {
        Self { port: started.port(), queue, _started: started }
    }

    /// Appends waiting packets to `burst`, as many as fit. Returns their number. Some drivers return nothing if there is room for fewer
    /// than 4 (vector receive), so leave more.
    #[inline]
    pub fn receive<const N: usize>(&mut self, burst: &mut Burst<N>) -> usize {
        burst.fill(|spare| {
            let room = spare.len().min(usize::from(u16::MAX)) as u16;
            // SAFETY: the port is started while `_started` lives, this handle is the queue's only user, and
            // `spare` has room for `room` pointers, of which the driver writes as many as it returns.
            let count = unsafe { sys::fc_rx_burst(self.port, self.queue, spare.as_mut_ptr().cast(), room) };
            usize::from(count)
        })
    }

    /// DPDK's id of the port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The number of the queue within its port.
    pub fn queue(&self) -> u16 {
        self.queue
    }
}

/// A transmit queue of a started port. It has one owner, and can move between threads.
#[derive(Debug)]
pub struct TxQueue {
    port: u16,
    queue: u16,
    _started: Arc<Started>,
}

impl TxQueue {
    pub(crate) fn new(queue: u16, started: Arc<Started>) -> Self {
        Self { port: started.port(), queue, _started: started }
    }

    /// Passes packets from the front of `burst` to the driver. Returns how many it took: the driver owns those. The others stay in the
    /// burst, in order.
    #[inline]
    pub fn send<const N: usize>(&mut self, burst: &mut Burst<N>) -> usize {
        let (mbufs, len) = burst.as_mbufs();
        if len == 0 {
            return 0;
        }
        let count = len.min(usize::from(u16::MAX)) as u16;
        // SAFETY: the port is started while `_started` lives, this handle is the queue's only user, and
        // `mbufs` holds `count` owned mbufs, of which the driver takes over the prefix that it returns.
        let sent = usize::from(unsafe { sys::fc_tx_burst(self.port, self.queue, mbufs, count) });
        burst.forget_front(sent);
        sent
    }

    /// DPDK's id of the port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The number of the queue within its port.
    pub fn queue(&self) -> u16 {
        self.queue
    }
}
