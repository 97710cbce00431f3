//! Time for the packet loop: nanoseconds since 1970 from the time-stamp counter.
//!
//! A read costs some ten cycles, a tenth of a system clock's. The counter's rate is measured against the system's monotonic clock, again
//! and again over a growing interval, so that a trial of an hour drifts no further than that clock does.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often the rate is measured again.
const MEASURE_EVERY_NS: u64 = 1_000_000_000;
/// The first measurement, before which there is no time to tell.
const FIRST: Duration = Duration::from_millis(20);

/// Never goes back.
#[derive(Debug, Clone)]
pub struct Clock {
    origin: Instant,
    origin_ticks: u64,
    origin_ns: u64,
    /// Since when the present rate is used.
    from_ticks: u64,
    from_ns: u64,
    ns_per_tick: f64,
}

impl Clock {
    pub fn new() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (origin, ticks, ns) = (Instant::now(), dpdk::ticks(), since.as_nanos() as u64);
        std::thread::sleep(FIRST);
        let (took, now) = (origin.elapsed(), dpdk::ticks());
        Self {
            origin,
            origin_ticks: ticks,
            origin_ns: ns,
            from_ticks: ticks,
            from_ns: ns,
            ns_per_tick: took.as_nanos() as f64 / now.saturating_sub(ticks).max(1) as f64,
        }
    }

    #[inline]
    pub fn now_ns(&self) -> u64 {
        self.from_ns + (dpdk::ticks().saturating_sub(self.from_ticks) as f64 * self.ns_per_tick) as u64
    }

    /// Follows the system's clock. Call it a few times per second.
    pub fn turn(&mut self) {
        let now_ns = self.now_ns();
        if now_ns < self.from_ns + MEASURE_EVERY_NS {
            return;
        }
        let (passed, ticks) = (self.origin.elapsed().as_nanos() as u64, dpdk::ticks());
        let measured = passed as f64 / ticks.saturating_sub(self.origin_ticks).max(1) as f64;
        // What has been returned stays. The difference goes into the rate of the next second.
        let behind = (self.origin_ns + passed) as f64 - now_ns as f64;
        let correction = (behind / MEASURE_EVERY_NS as f64).clamp(-0.001, 0.001);
        (self.from_ticks, self.from_ns) = (ticks, now_ns.max(self.now_ns()));
        self.ns_per_tick = measured * (1.0 + correction);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_system_clock_and_never_goes_back() {
        let mut clock = Clock::new();
        let (start, began_ns) = (Instant::now(), clock.now_ns());
        let mut last_ns = began_ns;
        while start.elapsed() < Duration::from_millis(2_300) {
            clock.turn();
            let now_ns = clock.now_ns();
            assert!(now_ns >= last_ns);
            last_ns = now_ns;
            std::thread::sleep(Duration::from_millis(1));
        }
        let (ours, system) = (clock.now_ns() - began_ns, start.elapsed().as_nanos() as u64);
        let off = ours.abs_diff(system) as f64 / system as f64;
        assert!(off < 0.002, "{ours} ns, the system's clock says {system} ns");
    }
}
