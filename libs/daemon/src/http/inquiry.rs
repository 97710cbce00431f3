//! The thread that asks the daemon for its status, and what the event loop knows of it.
//!
//! One inquiry runs at a time, and all who ask for its pages meanwhile share the answer: so any number of askers cost one status at a
//! time. After each there is a pause in proportion, so that askers cannot keep the daemon's own threads busy. A daemon that does not answer
//! keeps this thread, and nobody else.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use mio::Waker;

use super::connection::Answer;
use super::pages::{self, Page, Pages};
use crate::control::Handler;
use crate::{health, threads};

/// Time for the daemon to answer.
pub(super) const STATUS_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause after an inquiry in times of what it took, so that status is at most a fifth of a thread's work; and its bound.
const PAUSE: u32 = 4;
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// Time for the thread to end when the server stops.
const LAST_WAIT: Duration = Duration::from_millis(500);

type Made = Pages<Option<Answer>>;

#[derive(Debug)]
pub(super) struct Inquiry {
    orders: Option<Sender<Pages<bool>>>,
    made: Receiver<Made>,
    /// Since when one runs, and for which pages.
    running: Option<(Duration, Pages<bool>)>,
    /// Pages that somebody waits for and that the current one does not make.
    next: Pages<bool>,
    /// The next one starts at this time or later.
    from: Duration,
    thread: Option<JoinHandle<()>>,
}

impl Inquiry {
    /// # Errors
    /// The system has no thread.
    pub fn start(handler: Arc<dyn Handler>, waker: Arc<Waker>) -> io::Result<Self> {
        let (orders, ordered) = channel::<Pages<bool>>();
        let (made, fetched) = channel();
        let thread = std::thread::Builder::new().name("http-status".into()).spawn(move || {
            for wanted in ordered {
                let pages = catch_unwind(AssertUnwindSafe(|| pages::make(wanted, handler.as_ref())));
                if made.send(pages.unwrap_or_else(|_| failed(wanted))).is_err() {
                    return;
                }
                let _ = waker.wake();
            }
        })?;
        Ok(Self {
            orders: Some(orders),
            made: fetched,
            running: None,
            next: Pages::default(),
            from: Duration::ZERO,
            thread: Some(thread),
        })
    }

    /// Somebody waits for this page from now on.
    ///
    /// # Errors
    /// The daemon has not answered for too long: the text for the asker.
    pub fn ask(&mut self, now: Duration, page: Page) -> Result<(), String> {
        if page == Page::Health {
            // A thread that makes no progress is named at once: whoever asks would wait for it.
            stalled()?;
        }
        match &self.running {
            Some((since, _)) if now.saturating_sub(*since) >= STATUS_TIMEOUT => Err(self.overdue(now)),
            Some((_, wanted)) if *wanted.at(page) => Ok(()),
            _ => {
                *self.next.at_mut(page) = true;
                self.order(now);
                Ok(())
            }
        }
    }

    /// The pages of an inquiry that has ended.
    pub fn poll(&mut self, now: Duration) -> Option<Made> {
        let made = self.made.try_recv().ok();
        if made.is_some()
            && let Some((since, _)) = self.running.take()
        {
            self.from = now + (now.saturating_sub(since) * PAUSE).min(LONGEST_PAUSE);
        }
        self.order(now);
        made
    }

    /// When [`Self::poll`] starts the next inquiry.
    pub fn due(&self) -> Option<Duration> {
        (self.running.is_none() && self.next != Pages::default()).then_some(self.from)
    }

    fn order(&mut self, now: Duration) {
        if self.due().is_none_or(|due| now < due) {
            return;
        }
        let wanted = std::mem::take(&mut self.next);
        if let Some(orders) = &self.orders {
            let _ = orders.send(wanted);
        }
        self.running = Some((now, wanted));
    }

    /// Why somebody has waited in vain.
    pub fn overdue(&self, now: Duration) -> String {
        let since = self.running.map_or(now, |(since, _)| since);
        let waited = now.saturating_sub(since).as_secs_f64();
        let unknown = || format!("the daemon has not reported its status for {waited:.1} s");
        stalled().err().unwrap_or_else(unknown)
    }
}

/// # Errors
/// The threads that make no progress.
fn stalled() -> Result<(), String> {
    let threads = threads::show();
    if threads.is_empty() { Ok(()) } else { health::threads(&threads) }
}

impl Drop for Inquiry {
    /// Waits a little for the thread. One that a hanging daemon keeps is left behind.
    fn drop(&mut self) {
        self.orders = None;
        let ended = loop {
            match self.made.recv_timeout(LAST_WAIT) {
                Ok(_) => {}
                Err(reason) => break reason == RecvTimeoutError::Disconnected,
            }
        };
        if let Some(thread) = self.thread.take()
            && ended
        {
            let _ = thread.join();
        }
    }
}

fn failed(wanted: Pages<bool>) -> Made {
    let answer = |wanted: bool| {
        wanted.then(|| Answer::text(503, "the status cannot be made: a thread panicked, see the log"))
    };
    Pages { health: answer(wanted.health), metrics: answer(wanted.metrics), status: answer(wanted.status) }
}
