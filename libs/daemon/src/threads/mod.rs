//! The threads of the process, and whether each of them makes progress.
//!
//! A daemon whose HTTP thread answers is not therefore one that works. So every thread on the way of a route or a packet has a
//! [`Heartbeat`]: it stores the time at every turn of its loop (one relaxed store), and wakes at least once a second to do so. Who
//! asks for health reads the age of the last beat; a stopped thread cannot pretend to be well, and nobody has to answer for it.
//!
//! [`spawn`] starts a thread with a heartbeat, which also tells a panic. A thread that supervises its own work runs it under
//! [`Heartbeat::guard`], and continues after a panic. [`Pulse`] is a heartbeat seen from other threads; [`Pulse::answer`] waits for an answer of
//! a thread no longer than that is well.
//!
//! The [`Monitor`] logs stalls and recoveries, tells systemd's watchdog that all is well, and ends the process for its supervisor when an
//! essential thread has panicked, or makes no progress for `[node] stall_exit_s`. [`judge`] is its rule.
//!
//! Debug builds can be told to let a thread panic (`fault`).
//!
//! The registry belongs to the process, as signals and the log do.

#[cfg(debug_assertions)]
mod fault;
mod judge;
mod monitor;

use std::any::Any;
use std::cell::RefCell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use fibcast_control::status::{ThreadState, ThreadStatus};

pub use judge::Patience;
pub use monitor::Monitor;

/// A thread without a beat for this long is stalled, unless its task says otherwise. Loops make a turn at least once a second.
pub const LIMIT: Duration = Duration::from_secs(2);
/// Interval at which somebody who waits for an answer looks at the heartbeat.
const LOOK: Duration = Duration::from_millis(100);

static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::default);

/// What a thread is for.
#[derive(Debug, Clone)]
pub struct Task {
    name: String,
    limit: Duration,
    essential: bool,
}

impl Task {
    /// A thread on the way of a route or a packet: without it the node does not do its work.
    pub fn essential(name: impl Into<String>) -> Task {
        Task { name: name.into(), limit: LIMIT, essential: true }
    }

    /// Another thread: its loss is reported, and does not make the node unhealthy.
    pub fn auxiliary(name: impl Into<String>) -> Task {
        Task { essential: false, ..Task::essential(name) }
    }

    /// Sets the longest time between two beats that is normal for it.
    #[must_use]
    pub fn limit(self, limit: Duration) -> Task {
        Task { limit, ..self }
    }
}

#[derive(Debug)]
struct Slot {
    id: u64,
    task: Task,
    /// Milliseconds since the registry's start.
    beat_ms: AtomicU64,
    restarts: AtomicU64,
    last_panic: Mutex<Option<String>>,
    /// It panicked, and nobody restarts it.
    dead: AtomicBool,
    /// It ended in order, or was given up: no longer of interest.
    ended: AtomicBool,
    /// A fault test wants it to panic.
    #[cfg(debug_assertions)]
    to_panic: AtomicBool,
}

impl Slot {
    #[inline]
    fn beat(&self, now: Instant) {
        self.beat_ms.store(REGISTRY.ms(now), Ordering::Relaxed);
        #[cfg(debug_assertions)]
        fault::strike(self);
    }

    fn last_panic(&self) -> MutexGuard<'_, Option<String>> {
        self.last_panic.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Registry {
    start: Instant,
    slots: Mutex<Vec<Arc<Slot>>>,
    last_id: AtomicU64,
}

impl Default for Registry {
    fn default() -> Registry {
        Registry { start: Instant::now(), slots: Mutex::default(), last_id: AtomicU64::new(0) }
    }
}

impl Registry {
    fn slots(&self) -> MutexGuard<'_, Vec<Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ms(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_millis() as u64
    }

    fn age(&self, slot: &Slot, now: Instant) -> Duration {
        Duration::from_millis(self.ms(now).saturating_sub(slot.beat_ms.load(Ordering::Relaxed)))
    }

    fn living(&self) -> Vec<Arc<Slot>> {
        let mut slots = self.slots();
        slots.retain(|slot| !slot.ended.load(Ordering::Relaxed));
        slots.clone()
    }
}

/// The heartbeat of a thread, kept by the thread itself. Dropping it says that the thread has ended in order.
#[derive(Debug)]
pub struct Heartbeat {
    slot: Arc<Slot>,
}

/// Registers a thread, which beats from now on.
pub fn register(task: Task) -> Heartbeat {
    let registry = &*REGISTRY;
    let slot = Arc::new(Slot {
        id: registry.last_id.fetch_add(1, Ordering::Relaxed),
        task,
        beat_ms: AtomicU64::new(registry.ms(Instant::now())),
        restarts: AtomicU64::new(0),
        last_panic: Mutex::default(),
        dead: AtomicBool::new(false),
        ended: AtomicBool::new(false),
        #[cfg(debug_assertions)]
        to_panic: AtomicBool::new(false),
    });
    let mut slots = registry.slots();
    slots.retain(|slot| !slot.ended.load(Ordering::Relaxed));
    slots.push(slot.clone());
    Heartbeat { slot }
}

thread_local! {
    /// The heartbeat of a thread started by [`spawn`].
    static OWN: RefCell<Option<Arc<Slot>>> = const { RefCell::new(None) };
}

/// Beats for the calling thread, for code that does not know whose thread it runs on; nothing for a thread without heartbeat.
pub fn beat() {
    OWN.with_borrow(|own| {
        if let Some(slot) = own {
            slot.beat(Instant::now());
        }
    });
}

/// Starts a thread with a heartbeat. Its panic is logged, shown in status, and, if the thread is essential, ends the process.
///
/// # Errors
/// The system's error if the thread cannot be created.
pub fn spawn<T: Send + 'static>(
    task: Task,
    work: impl FnOnce(&Heartbeat) -> T + Send + 'static,
) -> io::Result<(JoinHandle<T>, Pulse)> {
    let heartbeat = register(task);
    let pulse = heartbeat.pulse();
    let thread = std::thread::Builder::new().name(heartbeat.slot.task.name.clone()).spawn(move || {
        OWN.set(Some(heartbeat.slot.clone()));
        catch_unwind(AssertUnwindSafe(|| work(&heartbeat))).unwrap_or_else(|panic| {
            heartbeat.panicked(&*panic);
            heartbeat.slot.dead.store(true, Ordering::Relaxed);
            resume_unwind(panic)
        })
    })?;
    Ok((thread, pulse))
}

impl Heartbeat {
    /// The thread has made a turn.
    #[inline]
    pub fn beat(&self) {
        self.beat_at(Instant::now());
    }

    /// The same for a thread that knows the time.
    #[inline]
    pub fn beat_at(&self, now: Instant) {
        self.slot.beat(now);
    }

    /// Runs work that the thread can restart: after a panic, which is logged and shown, the text of the panic.
    ///
    /// # Errors
    /// The text of the panic.
    pub fn guard<T>(&self, work: impl FnOnce() -> T) -> Result<T, String> {
        catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
            self.slot.restarts.fetch_add(1, Ordering::Relaxed);
            self.panicked(&*panic)
        })
    }

    /// The heartbeat for other threads.
    pub fn pulse(&self) -> Pulse {
        Pulse { slot: self.slot.clone() }
    }

    fn panicked(&self, panic: &(dyn Any + Send)) -> String {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        tracing::error!("thread {} panicked: {text}", self.slot.task.name);
        *self.slot.last_panic() = Some(text.clone());
        text
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        // A dead thread stays in sight.
        if !self.slot.dead.load(Ordering::Relaxed) {
            self.slot.ended.store(true, Ordering::Relaxed);
        }
    }
}

/// A heartbeat as other threads see it.
#[derive(Debug, Clone)]
pub struct Pulse {
    slot: Arc<Slot>,
}

impl Pulse {
    /// Time since the last beat.
    pub fn age(&self) -> Duration {
        REGISTRY.age(&self.slot, Instant::now())
    }

    /// Whether the thread makes no progress: it is stalled, has panicked or ended.
    pub fn is_stalled(&self) -> bool {
        self.has_ended() || self.age() > self.slot.task.limit
    }

    /// Whether the thread has panicked or ended.
    pub fn has_ended(&self) -> bool {
        self.slot.dead.load(Ordering::Relaxed) || self.slot.ended.load(Ordering::Relaxed)
    }

    /// Forgets a thread that has a successor, whatever became of it.
    pub fn retire(&self) {
        self.slot.ended.store(true, Ordering::Relaxed);
    }

    /// Waits for an answer of the thread: at most for `timeout`, and no longer than the thread is well.
    ///
    /// # Errors
    /// The reason why there is none, with the thread's name.
    pub fn answer<T>(&self, timeout: Duration, answers: &Receiver<T>) -> Result<T, String> {
        let name = &self.slot.task.name;
        let until = Instant::now() + timeout;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match answers.recv_timeout(left.min(LOOK)) {
                Ok(answer) => return Ok(answer),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(format!("thread {name} has dropped the question"));
                }
                Err(RecvTimeoutError::Timeout) if self.has_ended() => {
                    return Err(format!("thread {name} has ended"));
                }
                Err(RecvTimeoutError::Timeout) if self.is_stalled() => {
                    return Err(no_progress(name, self.age()));
                }
                Err(RecvTimeoutError::Timeout) if left.is_zero() => {
                    return Err(format!("thread {name} did not answer within {} s", timeout.as_secs()));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

fn no_progress(name: &str, age: Duration) -> String {
    format!("thread {name} has made no progress for {:.1} s", age.as_secs_f64())
}

/// All threads of the process that have a heartbeat.
pub fn show() -> Vec<ThreadStatus> {
    let now = Instant::now();
    let show = |slot: &Arc<Slot>| {
        let age = REGISTRY.age(slot, now);
        ThreadStatus {
            name: slot.task.name.clone(),
            state: match slot.dead.load(Ordering::Relaxed) {
                true => ThreadState::Panicked,
                false if age > slot.task.limit => ThreadState::Stalled,
                false => ThreadState::Running,
            },
            age_ms: age.as_millis() as u64,
            limit_ms: slot.task.limit.as_millis() as u64,
            essential: slot.task.essential,
            restarts: slot.restarts.load(Ordering::Relaxed),
            last_panic: slot.last_panic().clone(),
        }
    };
    REGISTRY.living().iter().map(show).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str) -> Option<ThreadStatus> {
        show().into_iter().find(|thread| thread.name == name)
    }

    #[test]
    fn a_thread_is_stalled_while_it_does_not_beat() {
        let heartbeat = register(Task::essential("quiet").limit(Duration::from_millis(20)));
        let pulse = heartbeat.pulse();
        std::thread::sleep(Duration::from_millis(60));
        assert!(pulse.is_stalled());
        let shown = of("quiet").unwrap();
        assert!(shown.state == ThreadState::Stalled && shown.age_ms >= 40, "{shown:?}");
        let (_keep, never) = crossbeam_channel::bounded::<()>(0);
        let reason = pulse.answer(Duration::from_secs(60), &never).unwrap_err();
        assert!(reason.starts_with("thread quiet has made no progress for 0."), "{reason}");
        // An hour ahead of any slow test machine.
        heartbeat.beat_at(Instant::now() + Duration::from_secs(3_600));
        assert!(!pulse.is_stalled());
        drop(heartbeat);
        assert!(pulse.has_ended() && of("quiet").is_none(), "it ended in order");
    }

    #[test]
    fn a_panic_is_shown_and_the_thread_stays_in_sight() {
        let (thread, pulse) = spawn(Task::auxiliary("unlucky"), |_| panic!("out of {}", "luck")).unwrap();
        let outcome: std::thread::Result<()> = thread.join();
        assert!(outcome.is_err() && pulse.is_stalled());
        let shown = of("unlucky").unwrap();
        assert_eq!((shown.state, shown.last_panic.as_deref()), (ThreadState::Panicked, Some("out of luck")));
    }

    #[test]
    fn a_guarded_thread_counts_its_panics_and_goes_on() {
        let heartbeat = register(Task::essential("guarded"));
        assert_eq!(heartbeat.guard(|| panic!("once")), Err::<(), _>("once".to_owned()));
        assert_eq!(heartbeat.guard(|| 7), Ok(7));
        let shown = of("guarded").unwrap();
        assert_eq!((shown.state, shown.restarts), (ThreadState::Running, 1));
        assert_eq!(shown.last_panic.as_deref(), Some("once"));
    }

    #[test]
    fn an_answer_ends_the_wait_and_so_does_the_end_of_the_thread() {
        let heartbeat = register(Task::essential("asked"));
        let pulse = heartbeat.pulse();
        let (to, answers) = crossbeam_channel::bounded(1);
        to.send(5).unwrap();
        assert_eq!(pulse.answer(Duration::from_secs(60), &answers), Ok(5));
        assert_eq!(
            pulse.answer(Duration::ZERO, &answers),
            Err("thread asked did not answer within 0 s".to_owned())
        );
        drop(heartbeat);
        let ended = pulse.answer(Duration::from_secs(60), &answers);
        assert_eq!(ended, Err("thread asked has ended".to_owned()));
    }
}
