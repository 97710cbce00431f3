//! Which path has which page, and how it is made.

use fibcast_control::protocol::{self, Request};
use fibcast_control::status::Status;

use super::connection::Answer;
use crate::control::Handler;
use crate::{health, metrics};

/// A page that is made of the daemon's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Page {
    Health,
    Metrics,
    Status,
}

/// The pages of one status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Pages<T> {
    pub health: T,
    pub metrics: T,
    pub status: T,
}

impl<T> Pages<T> {
    pub fn at(&self, page: Page) -> &T {
        match page {
            Page::Health => &self.health,
            Page::Metrics => &self.metrics,
            Page::Status => &self.status,
        }
    }

    pub fn at_mut(&mut self, page: Page) -> &mut T {
        match page {
            Page::Health => &mut self.health,
            Page::Metrics => &mut self.metrics,
            Page::Status => &mut self.status,
        }
    }
}

/// The page of a path.
///
/// # Errors
/// The answer itself, if it does not depend on the status.
pub(super) fn page(path: &str) -> Result<Page, Answer> {
    match path {
        "/healthz" => Ok(Page::Health),
        "/metrics" => Ok(Page::Metrics),
        "/status.json" => Ok(Page::Status),
        "/" => Err(Answer::text(200, "fibcast: /metrics /healthz /status.json")),
        _ => Err(Answer::text(404, "there are /metrics, /healthz and /status.json")),
    }
}

/// Asks for the status once, and makes the wanted pages of it.
pub(super) fn make(wanted: Pages<bool>, handler: &dyn Handler) -> Pages<Option<Answer>> {
    let status = match handler.handle(Request::Status) {
        Ok(protocol::Answer::Status(status)) => Ok(*status),
        Ok(_) => Err("the daemon gave another answer than its status".to_owned()),
        Err(reason) => Err(reason),
    };
    let made = |wanted: bool, make: &dyn Fn(&Status) -> Answer| {
        wanted.then(|| match &status {
            Ok(status) => make(status),
            Err(reason) => Answer::text(503, reason),
        })
    };
    Pages {
        health: made(wanted.health, &|status| match health::check(status) {
            Ok(()) => Answer::text(200, "ready"),
            Err(reason) => Answer::text(503, &reason),
        }),
        metrics: made(wanted.metrics, &|status| {
            let text = metrics::text(status, handler);
            Answer { code: 200, kind: metrics::CONTENT_TYPE, body: text.into_bytes().into() }
        }),
        status: made(wanted.status, &|status| match serde_json::to_vec_pretty(status) {
            Ok(text) => Answer { code: 200, kind: "application/json", body: text.into() },
            Err(error) => Answer::text(503, &format!("the status cannot be written: {error}")),
        }),
    }
}
