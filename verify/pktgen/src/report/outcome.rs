//! Everything that a test found.

use serde::Serialize;

use crate::convergence::Reconvergence;
use crate::latency::Latency;
use crate::outage::Outage;
use crate::report::QueueFigures;
use crate::search::TestKind;
use crate::trial::Trial;

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Outcome {
    pub test: TestKind,
    /// Version of the generator, and the scenario in words.
    pub generator: String,
    pub setup: Vec<(String, String)>,
    /// Largest rate of the test, packets/s.
    pub max_pps: f64,
    /// Mean size with FCS.
    pub mean_size: f64,
    pub trials: Vec<Trial>,
    pub results: Vec<Found>,
    /// Loss over load.
    pub curve: Vec<Point>,
    pub back_to_back: Option<BackToBack>,
    pub latency: Vec<AtLoad>,
    /// Of routes that changed during the test.
    pub reconvergence: Option<Reconvergence>,
    /// Times without returning packets, if they are watched for.
    pub outages: Vec<Outage>,
    /// By port and queue, since the start.
    pub queues: Vec<QueueFigures>,
    /// What spoils the figures.
    pub warnings: Vec<String>,
}

/// A rate that a search found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Found {
    /// NDR, PDR, throughput.
    pub name: String,
    pub loss_ratio: f64,
    /// Packets/s; none: even the smallest rate lost too much.
    pub pps: Option<f64>,
    /// bit/s of frames with FCS, and on the line with preamble and gap.
    pub bits: Option<f64>,
    pub line_bits: Option<f64>,
    /// Relevant bounds, packets/s.
    pub lower: Option<f64>,
    pub upper: Option<f64>,
    pub unfinished: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Point {
    /// Of the largest rate.
    pub percent: f64,
    pub pps: f64,
    pub loss_ratio: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BackToBack {
    pub line_pps: f64,
    pub lengths: Vec<u64>,
    pub mean: f64,
    pub deviation: f64,
    /// The longest burst that was tried lost nothing.
    pub unbounded: bool,
    pub implied_buffer_s: f64,
    pub corrected_buffer_s: f64,
}

/// Latency at a load.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AtLoad {
    /// Such as "50 % of NDR".
    pub name: String,
    pub pps: f64,
    pub device: Option<Latency>,
    /// The same load looped back inside the generator.
    pub generator: Option<Latency>,
    /// Quantile and microseconds.
    pub curve: Vec<(f64, f64)>,
}

impl Found {
    pub fn new(name: &str, loss_ratio: f64, pps: Option<f64>, mean_size: f64) -> Self {
        Self {
            name: name.to_owned(),
            loss_ratio,
            pps,
            bits: pps.map(|pps| pps * mean_size * 8.0),
            line_bits: pps.map(|pps| pps * (mean_size + crate::rate::LINE_OVERHEAD) * 8.0),
            lower: None,
            upper: None,
            unfinished: false,
        }
    }
}
