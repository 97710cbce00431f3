//! Commands at chosen times, such as one that kills a route server.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::scenario::Event;

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Runs the commands on a thread of its own. When dropped, no further one is started.
#[derive(Debug)]
pub struct Events {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Events {
    /// Their time counts from now. `stop` ends it as well.
    pub fn start(events: &[Event], stop: &Arc<AtomicBool>) -> std::io::Result<Self> {
        let mut events = events.to_vec();
        events.sort_by(|one, other| one.at.total_cmp(&other.at));
        let (over, all_over) = (Arc::new(AtomicBool::new(false)), stop.clone());
        let is_over = {
            let over = over.clone();
            move || over.load(Ordering::Relaxed) || all_over.load(Ordering::Relaxed)
        };
        let start = Instant::now();
        let run = move || {
            for event in events {
                while start.elapsed().as_secs_f64() < event.at {
                    if is_over() {
                        return;
                    }
                    std::thread::sleep(LOOK_EVERY);
                }
                run(&event);
            }
        };
        let thread = std::thread::Builder::new().name("events".into()).spawn(run)?;
        Ok(Self { stop: over, thread: Some(thread) })
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Its output goes where ours goes; only the figures have standard output for themselves.
fn run(event: &Event) {
    let words = match Command::new("sh").args(["-c", &format!("exec 1>&2; {}", event.run)]).status() {
        Ok(status) if status.success() => {
            return eprintln!("fibcast-pktgen: after {} s: {}", event.at, event.run);
        }
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    eprintln!("fibcast-pktgen: after {} s: {}: {words}", event.at, event.run);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_run_in_order_of_time_until_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("log");
        let event = |at, word: &str| Event { at, run: format!("echo {word} >> {}", file.display()) };
        let events = [event(0.05, "second"), event(600.0, "never"), event(0.0, "first")];
        let running = Events::start(&events, &Arc::new(AtomicBool::new(false))).unwrap();
        let end = Instant::now() + Duration::from_secs(30);
        let text = || std::fs::read_to_string(&file).unwrap_or_default();
        while text().lines().count() < 2 {
            assert!(Instant::now() < end);
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(running);
        assert_eq!(text(), "first\nsecond\n");
    }
}
