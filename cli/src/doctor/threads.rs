//! The daemon's threads: those that make no progress, or had to be restarted.

use fibcast_control::status::{ThreadState, ThreadStatus};

use super::finding::{Finding, Grade};

pub fn findings(threads: &[ThreadStatus]) -> Vec<Finding> {
    let one = |thread: &ThreadStatus| {
        let name = &thread.name;
        let panic = thread.last_panic.as_deref().unwrap_or_default();
        match thread.state {
            ThreadState::Running if thread.restarts == 0 => None,
            ThreadState::Running => {
                let found = format!("{name} was restarted {} times, last panic: {panic}", thread.restarts);
                Some(Finding::of(Grade::Warning, "threads", found, "please report it, with the log"))
            }
            ThreadState::Stalled => {
                let found =
                    format!("{name} has made no progress for {:.1} s", thread.age_ms as f64 / 1_000.0);
                let advice = "the process ends after [node] stall_exit_s; a debugger shows where it stands: gdb -p PID, thread apply all bt";
                let grade = if thread.essential { Grade::Bad } else { Grade::Warning };
                Some(Finding::of(grade, "threads", found, advice))
            }
            ThreadState::Panicked => {
                let found = format!("{name} panicked: {panic}");
                Some(Finding::of(Grade::Bad, "threads", found, "restart the daemon, and please report it"))
            }
        }
    };
    let unwell: Vec<Finding> = threads.iter().filter_map(one).collect();
    if unwell.is_empty() && !threads.is_empty() {
        return vec![Finding::fine("threads", format!("all {} make progress", threads.len()))];
    }
    unwell
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread(state: ThreadState, restarts: u64) -> ThreadStatus {
        ThreadStatus {
            name: "control".into(),
            state,
            age_ms: 2_600,
            limit_ms: 2_000,
            essential: true,
            restarts,
            last_panic: (restarts != 0).then(|| "index 9".into()),
        }
    }

    #[test]
    fn only_threads_that_need_attention_are_named() {
        let text = |threads: &[ThreadStatus]| format!("{:?}", findings(threads));
        assert!(text(&[thread(ThreadState::Running, 0)]).contains("all 1 make progress"));
        assert!(text(&[thread(ThreadState::Stalled, 0)]).contains("control has made no progress for 2.6 s"));
        assert!(text(&[thread(ThreadState::Running, 2)]).contains("restarted 2 times, last panic: index 9"));
        assert!(text(&[thread(ThreadState::Panicked, 0)]).contains("control panicked"));
        assert!(findings(&[]).is_empty(), "a daemon of an earlier version");
    }
}
