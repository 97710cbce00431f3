//! The time-stamp counter.

/// Ticks of the time-stamp counter, which runs at one rate whatever the core's clock does.
#[cfg(target_arch = "x86_64")]
#[inline]
pub fn ticks() -> u64 {
    // SAFETY: reads a counter that every x86-64 has; no memory is touched.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// Nanoseconds, where there is no time-stamp counter.
#[cfg(not(target_arch = "x86_64"))]
pub fn ticks() -> u64 {
    use std::time::Instant;
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

#[cfg(test)]
mod tests {
    #[test]
    fn ticks_go_forward() {
        let before = super::ticks();
        std::thread::sleep(std::time::Duration::from_millis(1));
        assert!(super::ticks() > before);
    }
}
