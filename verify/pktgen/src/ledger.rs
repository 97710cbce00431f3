//! Packets in flight: detects losses and duplicates.

/// A packet that has not returned after this time is lost.
pub const LOST_AFTER_NS: u64 = 2_000_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Back,
    Lost,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    seq: u64,
    sent_ns: u64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// First return, so many ns after sending.
    First {
        after_ns: u64,
    },
    Duplicate,
    /// Returned after it was counted as lost; it stays lost.
    Late,
    /// Never sent by this process, or too long ago to tell.
    Unknown,
}

/// Tracks the latest `capacity` packets by sequence number.
#[derive(Debug)]
pub struct Ledger {
    slots: Vec<Slot>,
    next: u64,
    /// All before have returned or are lost.
    oldest: u64,
    in_flight: usize,
    window: usize,
    /// A packet in flight for longer no longer counts for the window.
    overdue_ns: u64,
    /// All before have returned, are lost or overdue.
    punctual: u64,
    in_window: usize,
    pub lost: u64,
}

impl Ledger {
    /// `window` is the number of packets in flight, without those that are overdue by `overdue_ns`.
    pub fn new(window: usize, overdue_ns: u64, capacity: usize) -> Self {
        let capacity = capacity.max(window).next_power_of_two();
        let empty = Slot { seq: u64::MAX, sent_ns: 0, state: State::Back };
        Self {
            slots: vec![empty; capacity],
            next: 0,
            oldest: 0,
            in_flight: 0,
            window,
            overdue_ns,
            punctual: 0,
            in_window: 0,
            lost: 0,
        }
    }

    /// The sequence number for a packet sent now, or `None` while the window is full.
    pub fn send(&mut self, now_ns: u64) -> Option<u64> {
        if self.in_window >= self.window || self.next - self.oldest >= self.slots.len() as u64 {
            return None;
        }
        let seq = self.next;
        *self.slot(seq)? = Slot { seq, sent_ns: now_ns, state: State::Waiting };
        self.next += 1;
        self.in_flight += 1;
        self.in_window += 1;
        Some(seq)
    }

    pub fn receive(&mut self, seq: u64, now_ns: u64) -> Outcome {
        let Some(slot) = self.slot(seq).filter(|slot| slot.seq == seq) else { return Outcome::Unknown };
        let (state, sent_ns) = (slot.state, slot.sent_ns);
        slot.state = State::Back;
        match state {
            State::Waiting => {
                self.in_flight -= 1;
                self.in_window -= usize::from(seq >= self.punctual);
                Outcome::First { after_ns: now_ns.saturating_sub(sent_ns) }
            }
            State::Back => Outcome::Duplicate,
            State::Lost => Outcome::Late,
        }
    }

    /// Counts packets that are in flight for too long as lost, with their time of sending. Call it often; it only checks the oldest.
    pub fn expire(&mut self, now_ns: u64, mut lost: impl FnMut(u64)) {
        while self.punctual < self.next {
            let overdue_ns = self.overdue_ns;
            let Some(slot) = self.slot(self.punctual) else { return };
            if slot.state == State::Waiting {
                if now_ns.saturating_sub(slot.sent_ns) < overdue_ns {
                    break;
                }
                self.in_window -= 1;
            }
            self.punctual += 1;
        }
        while self.oldest < self.next {
            let Some(slot) = self.slot(self.oldest) else { return };
            if slot.state == State::Waiting {
                if now_ns.saturating_sub(slot.sent_ns) < LOST_AFTER_NS {
                    return;
                }
                slot.state = State::Lost;
                let sent_ns = slot.sent_ns;
                lost(sent_ns);
                self.lost += 1;
                self.in_flight -= 1;
            }
            self.oldest += 1;
        }
    }

    pub fn sent(&self) -> u64 {
        self.next
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    fn slot(&mut self, seq: u64) -> Option<&mut Slot> {
        let mask = self.slots.len() - 1;
        self.slots.get_mut(seq as usize & mask)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_closes_and_opens_when_a_packet_is_back() {
        let mut ledger = Ledger::new(2, LOST_AFTER_NS, 8);
        assert_eq!((ledger.send(0), ledger.send(0), ledger.send(0)), (Some(0), Some(1), None));
        assert_eq!(ledger.receive(1, 5), Outcome::First { after_ns: 5 });
        assert_eq!(ledger.send(6), Some(2));
    }

    #[test]
    fn packet_that_comes_twice_is_a_duplicate() {
        let mut ledger = Ledger::new(4, LOST_AFTER_NS, 8);
        ledger.send(0);
        ledger.receive(0, 1);
        ledger.expire(2, |_| ());
        assert_eq!(ledger.receive(0, 3), Outcome::Duplicate);
    }

    #[test]
    fn packet_not_back_in_time_is_lost_once_and_late_if_it_comes() {
        let mut ledger = Ledger::new(1, LOST_AFTER_NS, 8);
        ledger.send(10);
        ledger.expire(10 + LOST_AFTER_NS - 1, |_| ());
        assert_eq!((ledger.lost, ledger.in_flight()), (0, 1));
        let mut lost = Vec::new();
        ledger.expire(10 + LOST_AFTER_NS, |sent_ns| lost.push(sent_ns));
        ledger.expire(11 + LOST_AFTER_NS, |sent_ns| lost.push(sent_ns));
        assert_eq!(lost, [10]);
        assert_eq!((ledger.lost, ledger.in_flight()), (1, 0));
        assert!(ledger.send(11 + LOST_AFTER_NS).is_some(), "a loss does not close the window for ever");
        assert_eq!(ledger.receive(0, 12 + LOST_AFTER_NS), Outcome::Late);
        assert_eq!(ledger.receive(0, 13 + LOST_AFTER_NS), Outcome::Duplicate);
    }

    #[test]
    fn packet_that_is_overdue_leaves_the_window_and_may_still_come() {
        let mut ledger = Ledger::new(1, 5, 8);
        assert_eq!((ledger.send(0), ledger.send(4)), (Some(0), None));
        ledger.expire(4, |_| ());
        assert_eq!(ledger.send(4), None);
        ledger.expire(5, |_| ());
        assert_eq!((ledger.send(5), ledger.send(5), ledger.in_flight()), (Some(1), None, 2));
        assert_eq!(ledger.receive(0, 6), Outcome::First { after_ns: 6 });
        assert_eq!(ledger.send(6), None, "it had left the window before");
        assert_eq!(ledger.receive(1, 6), Outcome::First { after_ns: 1 });
        assert_eq!((ledger.send(6), ledger.in_flight(), ledger.lost), (Some(2), 1, 0));
    }

    #[test]
    fn sequence_never_sent_is_unknown() {
        let mut ledger = Ledger::new(4, LOST_AFTER_NS, 8);
        assert_eq!(ledger.receive(0, 0), Outcome::Unknown);
        ledger.send(0);
        assert_eq!(ledger.receive(8, 0), Outcome::Unknown, "same slot, other number");
    }
}
