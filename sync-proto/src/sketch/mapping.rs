//! The coded symbols of an identity: one at a time, or for several identities in parallel.
//!
//! Both variants do the same arithmetic in the same order on 32-bit integers and IEEE 754 single floats, whose sum, product, quotient,
//! square root and rounding are exact to the last bit, so every machine computes the same indices.

/// Identities processed in parallel: the number of 32-bit lanes of an AVX2 register.
pub(super) const LANES: usize = 8;

/// A bijective mixer of 64 bits (the finalizer of SplitMix64).
pub(super) fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Start and step of an identity's sequence of draws. All 64 bits matter, so two identities with equal sequences, which no sketch could
/// distinguish, are as rare as equal hashes.
fn seed(id: u64) -> (u32, u32) {
    let s = mix(id.wrapping_add(0x9e37_79b9_7f4a_7c15));
    (s as u32, (s >> 32) as u32)
}

/// The next draw: a Weyl sequence with a 32-bit mixer.
#[inline(always)]
fn draw(x: u32) -> u32 {
    let x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
    let x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

/// The index after `index`. The gap inverts the paper's distribution for density 1/(1 + i/2): (i + 3/2) * (1/sqrt(u) - 1), rounded
/// up, at least 1, u uniform in (0, 1].
#[inline(always)]
fn next(index: f32, r: u32) -> f32 {
    let u = ((r >> 8) as i32 as f32 + 1.0) * (1.0 / 16_777_216.0);
    let gap = (index + 1.5) * (1.0 / u.sqrt() - 1.0);
    index + gap.ceil().max(1.0)
}

/// The indices of the coded symbols of an identity, ascending, exact below 2^24.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mapping {
    x: u32,
    step: u32,
    index: f32,
}

impl Mapping {
    pub fn new(id: u64) -> Self {
        let (x, step) = seed(id);
        Self { x, step, index: 0.0 }
    }

    pub fn index(&self) -> u64 {
        self.index as u64
    }

    pub fn advance(&mut self) {
        self.x = self.x.wrapping_add(self.step | 1);
        self.index = next(self.index, draw(self.x));
    }
}

/// Several identities in parallel.
pub(super) struct Lanes {
    x: [u32; LANES],
    step: [u32; LANES],
    index: [f32; LANES],
    ends: [f32; LANES],
    end: u32,
}

impl Lanes {
    /// Starts at index 0; lanes without an identity are finished from the start. `end` is below 2^22.
    pub fn new(ids: impl Iterator<Item = u64>, end: u32) -> Self {
        let ends = std::array::from_fn(|lane| (end + lane as u32) as f32);
        let mut lanes = Self { x: [0; LANES], step: [0; LANES], index: ends, ends, end };
        for (lane, id) in ids.take(LANES).enumerate() {
            (lanes.x[lane], lanes.step[lane]) = seed(id);
            lanes.index[lane] = 0.0;
        }
        lanes
    }

    /// The next index of each lane; a finished lane is at `end` or less than [`LANES`] beyond. None if all are finished.
    #[inline]
    pub fn advance(&mut self) -> Option<[u32; LANES]> {
        let mut at = [0; LANES];
        for (lane, at) in at.iter_mut().enumerate() {
            self.x[lane] = self.x[lane].wrapping_add(self.step[lane] | 1);
            // Different indices, so that finished lanes do not wait for each other's writes to one cell.
            self.index[lane] = next(self.index[lane], draw(self.x[lane])).min(self.ends[lane]);
            // An integer below 2^23 is in the low bits of its sum with 2^23: a conversion without special cases.
            *at = (self.index[lane] + 8_388_608.0).to_bits() & 0x007f_ffff;
        }
        let over = at.iter().fold(true, |over, &at| over & (at >= self.end));
        (!over).then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_go_where_each_identity_goes_alone() {
        let end = 16_384u32;
        let ids: Vec<u64> = (0..LANES as u64 - 1).map(|i| mix(i ^ 77)).collect();
        let mut lanes = Lanes::new(ids.iter().copied(), end);
        let mut seen = vec![Vec::new(); LANES];
        while let Some(at) = lanes.advance() {
            for (lane, at) in at.into_iter().enumerate() {
                if at < end {
                    seen[lane].push(u64::from(at));
                } else {
                    assert!(at <= end + lane as u32);
                }
            }
        }
        for (lane, id) in ids.into_iter().enumerate() {
            let mut m = Mapping::new(id);
            let alone = std::iter::from_fn(|| {
                m.advance();
                Some(m.index()).filter(|&i| i < u64::from(end))
            });
            assert_eq!(seen[lane], alone.collect::<Vec<_>>());
        }
        assert!(seen[LANES - 1].is_empty());
    }

    #[test]
    fn indices_are_constants_of_the_protocol() {
        let mut m = Mapping::new(0x933b_bb8d_4adc_fd8b);
        let first: Vec<u64> = std::iter::from_fn(|| {
            m.advance();
            Some(m.index())
        })
        .take(8)
        .collect();
        assert_eq!(first, [2, 4, 6, 10, 47, 491, 492, 783]);
    }

    #[test]
    fn density_falls_as_the_paper_wants() {
        let mut hits = [0u32; 4];
        let n = 20_000;
        for i in 0..n {
            let mut m = Mapping::new(mix(i));
            m.advance();
            while m.index() < 10_000 {
                match m.index() {
                    1 => hits[0] += 1,
                    2 => hits[1] += 1,
                    18 => hits[2] += 1,
                    // Density is 1/51 to 1/101 here, 1/73 on average over a hundred.
                    100..200 => hits[3] += 1,
                    _ => {}
                }
                m.advance();
            }
        }
        let share = hits.map(|h| f64::from(h) / n as f64);
        for (share, want) in share.into_iter().zip([2.0 / 3.0, 0.5, 0.1, 1.361]) {
            assert!((share - want).abs() < want * 0.06, "{share} {want}");
        }
    }
}
