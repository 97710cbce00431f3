//! What the owner of the RIB tells a source about its routes: all required hosts forward by them; or they refuse them, or do not forward by them
//! within the time limit.
//!
//! Neither side ever waits: the owner keeps what the channel has no room for, and the source is woken by an event descriptor that it
//! polls beside its sockets.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};
use fibcast_sync_proto::GroupValue;
use ipnet::IpNet;
use rustix::event::{EventfdFlags, eventfd};

/// Acknowledgements that wait in the channel.
const QUEUE: usize = 4;

/// A route that is acknowledged as it was with this group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstalledRoute {
    /// Routing instance.
    pub vrf: u32,
    /// Destination.
    pub prefix: IpNet,
    /// Its group. A label would not do: two contents may have one.
    pub group: Arc<GroupValue>,
    /// Hosts refuse it, or have not installed it within the time limit: it is not to be announced.
    pub failed: bool,
}

/// Routes that are installed, and others that are not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledgement {
    /// The routes.
    pub routes: Vec<InstalledRoute>,
}

/// The owner's end.
#[derive(Debug)]
pub struct Acknowledger {
    to: Sender<Acknowledgement>,
    wake: Arc<OwnedFd>,
}

/// The source's end.
#[derive(Debug)]
pub struct Acknowledgements {
    from: Receiver<Acknowledgement>,
    wake: Arc<OwnedFd>,
}

/// Both ends of a channel.
///
/// # Errors
/// The system's error if there is no room for another descriptor.
pub fn acknowledgements() -> std::io::Result<(Acknowledger, Acknowledgements)> {
    let (to, from) = bounded(QUEUE);
    let wake = Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?);
    Ok((Acknowledger { to, wake: wake.clone() }, Acknowledgements { from, wake }))
}

impl Acknowledger {
    /// Whether there is room for another one.
    pub fn has_room(&self) -> bool {
        !self.to.is_full()
    }

    /// Sends one, if there is room and somebody who listens.
    pub fn send(&self, acknowledgement: Acknowledgement) {
        if self.to.try_send(acknowledgement).is_ok() {
            // The counter cannot overflow; a source also looks at its next timeout.
            let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
        }
    }
}

impl Acknowledgements {
    /// The next one.
    pub fn poll(&self) -> Option<Acknowledgement> {
        self.from.try_recv().ok()
    }

    /// Clears the event: call it before [`Self::poll`].
    pub fn clear(&self) {
        let _ = rustix::io::read(&*self.wake, &mut [0u8; 8]);
    }
}

impl AsFd for Acknowledgements {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_channel_is_told_and_an_event_is_pending_while_something_waits() {
        let (to, from) = acknowledgements().unwrap();
        let one = Acknowledgement { routes: Vec::new() };
        let mut sent = 0;
        while to.has_room() {
            to.send(one.clone());
            sent += 1;
        }
        assert_eq!(sent, QUEUE);
        let pending = |from: &Acknowledgements| {
            let mut fds = [rustix::event::PollFd::new(from, rustix::event::PollFlags::IN)];
            rustix::event::poll(&mut fds, Some(&rustix::event::Timespec::default())).unwrap() == 1
        };
        assert!(pending(&from));
        from.clear();
        assert!(!pending(&from));
        assert_eq!(std::iter::from_fn(|| from.poll()).count(), QUEUE);
    }
}
