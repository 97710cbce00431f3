//! Which thread of the daemon a request waits for, so that its asker can name the one that does not answer.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, PoisonError};

/// The thread that a request waits for at the moment, seen from other threads.
#[derive(Debug, Clone, Default)]
pub struct Waiting(Arc<Mutex<Option<&'static str>>>);

impl Waiting {
    /// Its name; none if the request waits for no thread.
    pub fn of(&self) -> Option<&'static str> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, thread: Option<&'static str>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = thread;
    }
}

thread_local! {
    static HERE: RefCell<Option<Waiting>> = const { RefCell::new(None) };
}

/// [`wait_for`] on this thread tells it to this one from now on.
pub fn report_to(waiting: &Waiting) {
    HERE.with(|here| *here.borrow_mut() = Some(waiting.clone()));
}

/// Waits for an answer of the named thread by calling `wait`, and makes it known.
pub fn wait_for<T>(thread: &'static str, wait: impl FnOnce() -> T) -> T {
    let tell = |thread| {
        HERE.with(|here| {
            if let Some(waiting) = here.borrow().as_ref() {
                waiting.set(thread);
            }
        });
    };
    tell(Some(thread));
    let answer = wait();
    tell(None);
    answer
}
