//! The machine under a measurement: which core, how many ticks, how busy it is.

use std::io;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// Ticks of the time-stamp counter, which runs at one rate whatever the core's clock does. It is the peer's unit too.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
#[inline]
pub fn ticks() -> u64 {
    // SAFETY: reads a counter that every x86-64 has; no memory is touched.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// Nanoseconds, where there is no time-stamp counter.
#[cfg(not(target_arch = "x86_64"))]
pub fn ticks() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Ticks per second, measured against the system's clock.
pub fn hertz() -> f64 {
    let (start, from) = (Instant::now(), ticks());
    std::thread::sleep(Duration::from_millis(50));
    let (ticks, took) = (ticks() - from, start.elapsed());
    ticks as f64 / took.as_secs_f64()
}

/// Cores that this process may use.
pub fn cores() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect())
}

/// Keeps the calling thread, and what it starts, on these cores.
pub fn pin(cores: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for &core in cores {
        set.set(core);
    }
    Ok(sched_setaffinity(None, &set)?)
}

/// What the calling thread has run so far; unlike wall time, other programs on the same core do not count.
pub fn thread_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.max(0) as u64, now.tv_nsec as u32)
}

/// Load average of the last minute.
pub fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(f64::NAN)
}

/// Bytes of memory that are free or can be made so.
pub fn memory_available() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// The time-stamp counter, read when everything before is done and before anything after begins: the clock of `dpdk-test-fib`.
pub fn fenced_ticks() -> u64 {
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    ticks()
}
