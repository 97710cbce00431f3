//! The monitor's rule, without clock or registry.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::no_progress;

/// Two looks further apart than this: the whole process was stopped, or the machine was.
const GAP: Duration = Duration::from_secs(1);

/// Forgives the time in which not only the watched thread but the watching one as well did not run: a stopped process or a paused
/// virtual machine is no stalled thread.
#[derive(Debug)]
pub struct Patience {
    last: Instant,
    since: Instant,
}

impl Patience {
    /// Watching begins.
    pub fn new(now: Instant) -> Patience {
        Patience { last: now, since: now }
    }

    /// To be called at every look, several times a second.
    pub fn look(&mut self, now: Instant) {
        if now.saturating_duration_since(self.last) > GAP {
            self.since = now;
        }
        self.last = now;
    }

    /// The part of a thread's silence that counts.
    pub fn counted(&self, age: Duration) -> Duration {
        age.min(self.last.saturating_duration_since(self.since))
    }
}

/// A thread at one look.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub id: u64,
    pub name: String,
    pub essential: bool,
    pub limit: Duration,
    /// Since its last beat.
    pub age: Duration,
    /// It panicked, and nobody restarts it.
    pub panic: Option<String>,
}

/// What the monitor is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Stalled(String),
    Recovered(String),
    /// End the process for this reason.
    End(String),
}

#[derive(Debug)]
pub(super) struct Judge {
    exit_after: Option<Duration>,
    patience: Patience,
    stalled: HashSet<u64>,
}

impl Judge {
    /// `exit_after`: time without progress of an essential thread after which the process ends; none: never.
    pub fn new(exit_after: Option<Duration>, now: Instant) -> Judge {
        Judge { exit_after, patience: Patience::new(now), stalled: HashSet::new() }
    }

    pub fn look(&mut self, now: Instant, threads: &[Seen]) -> Vec<Verdict> {
        self.patience.look(now);
        let mut verdicts = Vec::new();
        // The longest silence first: the others may wait for that thread.
        let mut threads: Vec<&Seen> = threads.iter().collect();
        threads.sort_by_key(|thread| std::cmp::Reverse(thread.age));
        for thread in threads {
            let age = self.patience.counted(thread.age);
            if let Some(panic) = &thread.panic {
                if thread.essential {
                    verdicts.push(Verdict::End(format!("thread {} panicked: {panic}", thread.name)));
                }
                continue;
            }
            if age <= thread.limit {
                // An age that does not count proves no progress.
                if thread.age <= thread.limit && self.stalled.remove(&thread.id) {
                    verdicts.push(Verdict::Recovered(thread.name.clone()));
                }
                continue;
            }
            let text = no_progress(&thread.name, age);
            if self.stalled.insert(thread.id) {
                verdicts.push(Verdict::Stalled(text.clone()));
            }
            if thread.essential && self.exit_after.is_some_and(|after| age >= after) {
                verdicts.push(Verdict::End(text));
            }
        }
        verdicts
    }

    /// Whether an essential thread makes no progress.
    pub fn is_unwell(&self, threads: &[Seen]) -> bool {
        threads.iter().any(|thread| {
            let stalled = self.patience.counted(thread.age) > thread.limit;
            thread.essential && (stalled || thread.panic.is_some())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: u64 = 250;

    fn seen(name: &str, age_ms: u64) -> Seen {
        Seen {
            id: name.len() as u64,
            name: name.to_owned(),
            essential: true,
            limit: Duration::from_secs(2),
            age: Duration::from_millis(age_ms),
            panic: None,
        }
    }

    /// Looks every [`STEP`] ms of `from..=to` at a thread that beat last at 0.
    fn silence(judge: &mut Judge, start: Instant, from: u64, to: u64) -> Vec<(u64, Verdict)> {
        let mut all = Vec::new();
        for ms in (from..=to).step_by(STEP as usize) {
            let verdicts = judge.look(start + Duration::from_millis(ms), &[seen("control", ms)]);
            all.extend(verdicts.into_iter().map(|verdict| (ms, verdict)));
        }
        all
    }

    #[test]
    fn a_stall_is_told_once_and_ends_the_process_in_the_end() {
        let start = Instant::now();
        let mut judge = Judge::new(Some(Duration::from_secs(5)), start);
        let stalled = |age: &str| format!("thread control has made no progress for {age} s");
        assert_eq!(
            silence(&mut judge, start, STEP, 5_000),
            [(2_250, Verdict::Stalled(stalled("2.2"))), (5_000, Verdict::End(stalled("5.0")))]
        );
        assert!(judge.is_unwell(&[seen("control", 5_000)]));
        let back = judge.look(start + Duration::from_millis(5_250), &[seen("control", 1)]);
        assert_eq!(back, [Verdict::Recovered("control".into())]);
        assert!(!judge.is_unwell(&[seen("control", 1)]));
    }

    #[test]
    fn without_a_limit_the_process_goes_on() {
        let start = Instant::now();
        let mut judge = Judge::new(None, start);
        let verdicts = silence(&mut judge, start, STEP, 600_000);
        assert!(matches!(verdicts[..], [(2_250, Verdict::Stalled(_))]), "{verdicts:?}");
    }

    #[test]
    fn a_process_that_was_stopped_as_a_whole_has_no_stalled_thread() {
        let start = Instant::now();
        let mut judge = Judge::new(Some(Duration::from_secs(5)), start);
        assert_eq!(silence(&mut judge, start, STEP, 1_000), []);
        // SIGSTOP for an hour.
        let hour = 3_600_000;
        assert_eq!(silence(&mut judge, start, hour, hour + 1_000), []);
        // It does not run after that either.
        let verdicts = silence(&mut judge, start, hour + 1_250, hour + 6_000);
        assert!(matches!(verdicts[..], [(_, Verdict::Stalled(_)), (_, Verdict::End(_)), ..]), "{verdicts:?}");
    }

    #[test]
    fn a_panic_ends_the_process_at_once_if_the_thread_is_essential() {
        let start = Instant::now();
        let mut judge = Judge::new(None, start);
        let dead = |essential| Seen { panic: Some("oops".into()), essential, ..seen("control", 0) };
        assert_eq!(judge.look(start, &[dead(false)]), []);
        let end = Verdict::End("thread control panicked: oops".into());
        assert_eq!(judge.look(start, &[dead(true)]), [end]);
    }

    #[test]
    fn an_auxiliary_thread_is_told_and_never_ends_the_process() {
        let start = Instant::now();
        let mut judge = Judge::new(Some(Duration::from_secs(1)), start);
        for ms in (0..10_000).step_by(STEP as usize) {
            let disk = [Seen { essential: false, ..seen("checkpoint", ms) }];
            let verdicts = judge.look(start + Duration::from_millis(ms), &disk);
            assert!(!verdicts.iter().any(|verdict| matches!(verdict, Verdict::End(_))), "{verdicts:?}");
            assert!(!judge.is_unwell(&disk));
        }
    }

    #[test]
    fn the_thread_that_others_wait_for_is_named_first() {
        let start = Instant::now();
        let mut judge = Judge::new(Some(Duration::from_secs(3)), start);
        let mut ends = Vec::new();
        for ms in (0..6_000u64).step_by(STEP as usize) {
            let threads = [seen("watch", ms.saturating_sub(500)), seen("control", ms)];
            ends.extend(judge.look(start + Duration::from_millis(ms), &threads));
        }
        let first = ends.iter().find(|verdict| matches!(verdict, Verdict::End(_)));
        assert_eq!(first, Some(&Verdict::End("thread control has made no progress for 3.0 s".into())));
    }
}
