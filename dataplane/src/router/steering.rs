//! Detects whether a device really spreads flows over its receive queues (RSS).
//!
//! Some report RSS and do not do it (vmxnet3 in QEMU delivers everything to queue 0). Then software RSS spreads the port's flows, as for a
//! device with one queue, until packets arrive on other queues after all.

/// Packets on one queue and none on others: enough to conclude that flows are not spread.
const EVIDENCE: u64 = 4_096;
/// Packets on the other queues: enough to conclude that they are.
const OTHERS: u64 = 64;

/// What to do about a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Steering {
    /// Leave it unchanged.
    Keep,
    /// Turn software RSS on.
    Spread,
    /// Turn software RSS off: the device spreads flows.
    Leave,
}

/// Decides by the number of packets that each queue of a port received since the start. A port with fewer queues than workers is not
/// judged: its software RSS was decided at the start.
pub fn judge(queues: &[u64], workers: usize, spread: bool) -> Steering {
    if queues.len() < workers {
        return Steering::Keep;
    }
    let all: u64 = queues.iter().sum();
    let others = all - queues.iter().max().copied().unwrap_or(0);
    match spread {
        false if queues.len() > 1 && others == 0 && all >= EVIDENCE => Steering::Spread,
        true if others >= OTHERS => Steering::Leave,
        _ => Steering::Keep,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_whose_packets_all_come_by_one_queue_is_spread_by_software() {
        assert_eq!(judge(&[EVIDENCE - 1, 0], 2, false), Steering::Keep);
        assert_eq!(judge(&[EVIDENCE, 0], 2, false), Steering::Spread);
        assert_eq!(judge(&[0, 0, EVIDENCE], 3, false), Steering::Spread);
        assert_eq!(judge(&[EVIDENCE, 1], 2, false), Steering::Keep);
        assert_eq!(judge(&[EVIDENCE], 2, false), Steering::Keep, "one queue: configured so");
        assert_eq!(judge(&[], 2, false), Steering::Keep);
    }

    #[test]
    fn a_port_with_fewer_queues_than_workers_stays_as_it_was_at_the_start() {
        for spread in [true, false] {
            assert_eq!(judge(&[EVIDENCE, EVIDENCE], 4, spread), Steering::Keep);
            assert_eq!(judge(&[EVIDENCE, 0], 4, spread), Steering::Keep);
        }
    }

    #[test]
    fn it_is_left_to_the_device_when_that_spreads_after_all() {
        assert_eq!(judge(&[EVIDENCE, OTHERS - 1], 2, true), Steering::Keep);
        assert_eq!(judge(&[EVIDENCE, OTHERS], 2, true), Steering::Leave);
    }
}
