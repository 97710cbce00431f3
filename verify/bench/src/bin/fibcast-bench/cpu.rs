//! The machine under a measurement: which core, how many ticks, how busy it is.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
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

/// How many times longer `core` takes for arithmetic while `other` does the same: 1 where they are two cores, up to 2 where they are
/// threads of one.
pub fn slowdown_together(core: usize, other: usize) -> io::Result<f64> {
    let done = AtomicBool::new(false);
    // In threads of their own: the caller stays where it is.
    let measured = || std::thread::scope(|scope| scope.spawn(|| arithmetic(core)).join());
    let failed = |_| io::Error::other("a thread panicked");
    let alone = measured().map_err(failed)??;
    let beside = std::thread::scope(|scope| {
        let rival = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                arithmetic(other)?;
            }
            io::Result::Ok(())
        });
        let beside = measured();
        done.store(true, Ordering::Relaxed);
        rival.join().map_err(failed)??;
        beside.map_err(failed)?
    })?;
    Ok(beside / alone)
}

/// Ticks that six sums side by side take on a core: the least of several passes, as other programs only ever make it longer.
fn arithmetic(core: usize) -> io::Result<f64> {
    pin(&[core])?;
    let pass = || {
        let (from, mut sums) = (ticks(), [1u64, 2, 3, 4, 5, 6]);
        for number in 0..1_000_000u64 {
            for sum in &mut sums {
                *sum = std::hint::black_box(*sum ^ number);
            }
        }
        ticks() - from
    };
    Ok((0..20).map(|_| pass()).min().unwrap_or(0) as f64)
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
    std::sync::atomic::fence(Ordering::SeqCst);
    ticks()
}
