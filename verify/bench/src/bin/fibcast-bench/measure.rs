//! How a figure comes about on a machine that others use too; the same rule for every side.
//!
//! A pass over a set of addresses is cut into slices, each with a reading of the clock. Another program that takes the core hits few
//! slices; the lower quartile of all slices is what the code costs where nobody does. Slices differ in their addresses only, which are
//! drawn alike, so the quartile leaves out no kind of work. Before the counted passes comes one that only warms the caches.

use std::ops::Range;

use crate::cpu;

/// Slices of one pass.
const SLICES: usize = 64;
/// Counted passes of one round.
const PASSES: usize = 2;

/// Ticks per item: `work` is called for slices of `0..items`, which begin at multiples of 64.
pub fn ticks_per_item(items: usize, mut work: impl FnMut(Range<usize>)) -> f64 {
    work(0..items);
    let slice = items.div_ceil(SLICES).next_multiple_of(64).max(64);
    let mut figures = Vec::with_capacity(SLICES * PASSES);
    for _ in 0..PASSES {
        for start in (0..items).step_by(slice) {
            let range = start..items.min(start + slice);
            let (count, before) = (range.len(), cpu::ticks());
            work(range);
            figures.push((cpu::ticks() - before) as f64 / count as f64);
        }
    }
    lower_quartile(figures)
}

/// The figure that a quarter of all lie below.
pub fn lower_quartile(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of.get(of.len() / 4).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_lies_below_the_lower_quartile() {
        assert_eq!(lower_quartile(vec![8.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]), 3.0);
        assert!(lower_quartile(Vec::new()).is_nan());
    }

    #[test]
    fn every_item_is_in_one_slice_of_each_pass() {
        let mut seen = vec![0; 10_000];
        ticks_per_item(seen.len(), |range| seen[range].iter_mut().for_each(|count| *count += 1));
        assert!(seen.iter().all(|&count| count == 1 + PASSES));
    }
}
