//! Whether a device really spreads flows over its receive queues.
//!
//! Some say that they can and do not (vmxnet3 in QEMU names RSS and delivers all by queue 0). Then software spreads the flows of the
//! port, as for a device with one queue, until packets come by other queues after all.

/// Packets by one queue and none by any other: enough to say that flows are not spread.
const EVIDENCE: u64 = 4_096;
/// Packets by the other queues: enough to say that they are.
const OTHERS: u64 = 64;

/// What to do about a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// As it is.
    Keep,
    /// Software spreads its flows from now on.
    Spread,
    /// Its device does.
    Leave,
}

/// Judges by how many packets each queue of a port has received since the start. A port with fewer queues than there are workers is not
/// judged: whether software spreads its flows was decided at the start.
pub fn judge(queues: &[u64], workers: usize, spread: bool) -> Verdict {
    if queues.len() < workers {
        return Verdict::Keep;
    }
    let all: u64 = queues.iter().sum();
    let others = all - queues.iter().max().copied().unwrap_or(0);
    match spread {
        false if queues.len() > 1 && others == 0 && all >= EVIDENCE => Verdict::Spread,
        true if others >= OTHERS => Verdict::Leave,
        _ => Verdict::Keep,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_whose_packets_all_come_by_one_queue_is_spread_by_software() {
        assert_eq!(judge(&[EVIDENCE - 1, 0], 2, false), Verdict::Keep);
        assert_eq!(judge(&[EVIDENCE, 0], 2, false), Verdict::Spread);
        assert_eq!(judge(&[0, 0, EVIDENCE], 3, false), Verdict::Spread);
        assert_eq!(judge(&[EVIDENCE, 1], 2, false), Verdict::Keep);
        assert_eq!(judge(&[EVIDENCE], 2, false), Verdict::Keep, "one queue: configured so");
        assert_eq!(judge(&[], 2, false), Verdict::Keep);
    }

    #[test]
    fn a_port_with_fewer_queues_than_workers_stays_as_it_was_at_the_start() {
        for spread in [true, false] {
            assert_eq!(judge(&[EVIDENCE, EVIDENCE], 4, spread), Verdict::Keep);
            assert_eq!(judge(&[EVIDENCE, 0], 4, spread), Verdict::Keep);
        }
    }

    #[test]
    fn it_is_left_to_the_device_when_that_spreads_after_all() {
        assert_eq!(judge(&[EVIDENCE, OTHERS - 1], 2, true), Verdict::Keep);
        assert_eq!(judge(&[EVIDENCE, OTHERS], 2, true), Verdict::Leave);
    }
}
