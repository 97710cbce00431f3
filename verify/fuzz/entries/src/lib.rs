//! One function of bytes for each decoder and each machine: what fuzzers call, and what a test replays the corpus through.
//!
//! A function returns for any bytes whatever; it panics where the code under test panics or breaks a promise (a table that is not
//! what its digest says, a frame that is another after a round trip, a packet that no counter knows). [`ALL`] is the list; [`wire`], [`machines`], [`origins`],
//! [`files`], [`reload`], [`http`], [`live`] and [`packets`] hold them. `verify/fuzz/fuzz_targets` gives each to libFuzzer, `tests/corpus.rs` replays `verify/fuzz/corpus`, `examples/make-corpus.rs`
//! writes the corpus.
// A failed check panics, as in any test.
#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used, clippy::missing_panics_doc)]

pub mod files;
pub mod http;
pub mod live;
pub mod machines;
pub mod origins;
pub mod packets;
pub mod reload;
pub mod wire;

/// Name of a target and what it runs.
pub type Entry = (&'static str, fn(&[u8]));

/// All targets.
pub const ALL: &[Entry] = &[
    ("frames", wire::frames),
    ("records", wire::records),
    ("sketch", wire::sketch),
    ("client", machines::client),
    ("server", machines::server),
    ("origins", origins::origins),
    ("mrt", files::mrt),
    ("mrt_records", files::mrt_records),
    ("config", files::config),
    ("checkpoint", files::checkpoint),
    ("control", files::control),
    ("reload", reload::reload),
    ("http", http::http),
    ("packets", packets::packets),
    ("fpm", live::fpm),
    ("takeover", live::takeover),
    ("netlink", live::netlink),
];

/// Splits an input into steps: the same bytes always give the same steps.
#[derive(Debug)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// All of it.
    pub fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    /// The next byte; none at the end.
    pub fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    /// Two bytes as a number, fewer at the end.
    pub fn number(&mut self) -> u16 {
        u16::from(self.byte().unwrap_or(0)) << 8 | u16::from(self.byte().unwrap_or(0))
    }

    /// Up to `n` bytes.
    pub fn take(&mut self, n: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A length byte and so many bytes.
    pub fn chunk(&mut self) -> &'a [u8] {
        let n = self.byte().unwrap_or(0);
        self.take(usize::from(n))
    }
}
