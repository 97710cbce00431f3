//! Tests and their searches. A search is a pure function over results of trials: it says which trial is next, gets the result, and ends with
//! what it found. It knows no port and no clock.
//!
//! | module | test |
//! |---|---|
//! | `binary` | throughput by binary search (RFC 2544 §26.1) |
//! | `mlr` | NDR and PDR by MLRsearch (draft-ietf-bmwg-mlrsearch) |
//! | `curve` | frame-loss rate over load (RFC 2544 §26.3) |
//! | `back_to_back` | longest burst without loss (RFC 9004) |

pub mod back_to_back;
pub mod binary;
pub mod curve;
pub mod mlr;
#[cfg(test)]
pub mod simulated;

use serde::{Deserialize, Serialize};

/// What is measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum TestKind {
    /// One trial, of which every packet counts.
    #[default]
    Traffic,
    /// RFC 2544 throughput: the highest rate without loss, by binary search.
    Throughput,
    /// NDR and PDR by MLRsearch.
    Mlrsearch,
    /// RFC 2544 frame-loss rate at 100 %, 90 %, … of the largest rate.
    LossCurve,
    /// RFC 9004: the longest burst at line rate without loss.
    BackToBack,
    /// One long trial at one rate, with a result for each part of it.
    Soak,
}

/// A trial that a search asks for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ask {
    /// Packets/s over all ports.
    pub pps: f64,
    pub seconds: f64,
    /// So many packets instead, at that rate.
    pub count: Option<u64>,
}

impl Ask {
    pub fn at(pps: f64, seconds: f64) -> Self {
        Self { pps, seconds, count: None }
    }
}

/// What a search sees of a trial.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Answer {
    pub ask: Ask,
    /// With packets that were not sent.
    pub loss_ratio: f64,
    /// Seconds that count for it.
    pub seconds: f64,
}

/// Asks for trials one by one until it has found what it looks for.
pub trait Search {
    /// The next trial; none at the end. Each is followed by [`Search::answer`].
    fn ask(&mut self) -> Option<Ask>;
    fn answer(&mut self, answer: Answer);
    /// Trials that may still come, as far as it knows.
    fn left(&self) -> Option<usize>;
}
