//! The traffic generator's figures, read from its standard output as they come.

use serde::Deserialize;
use std::io::{BufRead, BufReader};
use std::process::ChildStdout;
use std::sync::{Arc, Mutex, PoisonError};

/// What the generator counts; the last line that it prints is its final report.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Figures {
    /// Packets sent.
    pub sent: u64,
    /// Packets that came back.
    pub received: u64,
    /// Not back in time.
    pub lost: u64,
    /// Wrong port or wrong destination MAC.
    pub misdelivered: u64,
    /// Came back twice.
    pub duplicated: u64,
    /// Out of order within a flow.
    pub reordered: u64,
    /// Wrong TTL, checksum or content.
    pub corrupt: u64,
    /// Routes that have forwarded at least one packet.
    pub covered: u64,
    /// Routes in the table.
    pub flows: u64,
    /// Unix time when the last route had forwarded a packet.
    pub covered_at: Option<f64>,
    /// Packets per second sent lately.
    pub pps: f64,
    /// Packets per second over the whole counted run.
    pub mean_pps: f64,
    /// Round trip through the dataplane, in microseconds.
    pub latency_p50_us: f64,
    /// The slowest in a hundred.
    pub latency_p99_us: f64,
    /// The slowest.
    pub latency_max_us: f64,
    /// Warming up: packets are not counted yet.
    pub warming_up: bool,
}

/// Reads figures on a thread of its own until the generator ends.
#[derive(Debug, Clone)]
pub struct Feed(Arc<Mutex<Figures>>);

impl Feed {
    /// Follows the generator's standard output.
    pub fn follow(stdout: ChildStdout) -> Feed {
        let feed = Feed(Arc::default());
        let latest = feed.0.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Ok(figures) = serde_json::from_str(&line) {
                    *latest.lock().unwrap_or_else(PoisonError::into_inner) = figures;
                }
            }
        });
        feed
    }

    /// The last figures.
    pub fn latest(&self) -> Figures {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
