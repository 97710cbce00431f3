//! Frame sizes in bytes, with FCS (RFC 2544 §9.1).

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// Of the FCS, which no driver passes on.
pub const FCS: u16 = 4;
/// Ethernet's smallest.
pub const SMALLEST: u16 = 64;
/// The largest jumbo frame.
pub const LARGEST: u16 = 9_216;
/// FD.io CSIT's IMIX: 28 packets of 64 bytes, 16 of 570 and 4 of 1518 are 7:4:1.
const IMIX: [(u16, u16); 3] = [(64, 7), (570, 4), (1518, 1)];
const MOST: usize = 16_384;

/// A repeating sequence of sizes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Text")]
pub struct Sizes {
    name: String,
    pattern: Vec<u16>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Number(u16),
    Text(String),
}

impl TryFrom<Text> for Sizes {
    type Error = String;

    fn try_from(text: Text) -> Result<Self, String> {
        match text {
            Text::Number(number) => number.to_string().parse(),
            Text::Text(text) => text.parse(),
        }
    }
}

impl Sizes {
    pub fn one(size: u16) -> Self {
        Self { name: size.to_string(), pattern: vec![size] }
    }

    pub fn pattern(&self) -> &[u16] {
        &self.pattern
    }

    pub fn largest(&self) -> u16 {
        self.pattern.iter().copied().max().unwrap_or(0)
    }

    /// A mix: so many frames of each size, spread evenly.
    fn mix(name: &str, parts: &[(u16, u16)]) -> Result<Self, String> {
        let total: usize = parts.iter().map(|(_, weight)| usize::from(*weight)).sum();
        if total == 0 || total > MOST {
            return Err(format!("sizes {name:?}: expected weights with a sum of 1 to {MOST}"));
        }
        // Each step gives every size its share, and takes a whole frame from the one with most.
        let mut credit = vec![0_i64; parts.len()];
        let mut pattern = Vec::with_capacity(total);
        for _ in 0..total {
            for (credit, (_, weight)) in credit.iter_mut().zip(parts) {
                *credit += i64::from(*weight);
            }
            let most =
                credit.iter().enumerate().max_by_key(|(at, credit)| (**credit, std::cmp::Reverse(*at)));
            let Some(at) = most.map(|(at, _)| at) else { break };
            if let (Some(credit), Some((size, _))) = (credit.get_mut(at), parts.get(at)) {
                *credit -= total as i64;
                pattern.push(*size);
            }
        }
        Ok(Self { name: name.to_owned(), pattern })
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let size = |word: &str| match word.trim().parse::<u16>() {
            Ok(size) if (SMALLEST..=LARGEST).contains(&size) => Ok(size),
            _ => Err(format!(
                "sizes {text:?}: {word:?}: expected {SMALLEST} to {LARGEST} bytes with FCS, a range 64-128, imix, or a mix 64:7,570:4,1518:1"
            )),
        };
        if text == "imix" {
            return Self::mix(text, &IMIX);
        }
        if let Some((low, high)) = text.split_once('-') {
            let (low, high) = (size(low)?, size(high)?);
            if low > high {
                return Err(format!("sizes {text:?}: expected the smaller size first"));
            }
            return Ok(Self { name: text.to_owned(), pattern: (low..=high).collect() });
        }
        let mut parts = Vec::new();
        for part in text.split(',') {
            let (word, weight) = part.split_once(':').unwrap_or((part, "1"));
            let weight = weight.trim().parse::<u16>().ok().filter(|&weight| weight > 0);
            parts.push((
                size(word)?,
                weight.ok_or(format!("sizes {text:?}: {part:?}: expected a weight above 0"))?,
            ));
        }
        Self::mix(text, &parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imix_has_its_shares_and_no_cluster() {
        let imix: Sizes = "imix".parse().unwrap();
        let count = |size| imix.pattern().iter().filter(|&&other| other == size).count();
        assert_eq!((count(64), count(570), count(1518)), (7, 4, 1));
        assert_eq!(imix, Sizes { name: "imix".into(), ..("64:7,570:4,1518:1".parse().unwrap()) });
        let mean = imix.pattern().iter().map(|&size| f64::from(size)).sum::<f64>() / 12.0;
        assert!((mean - 353.83).abs() < 0.01, "{mean}");
        assert!(imix.pattern().windows(3).all(|three| three != [570, 570, 570]));
    }

    #[test]
    fn range_and_single_size() {
        assert_eq!("64-67".parse::<Sizes>().unwrap().pattern(), [64, 65, 66, 67]);
        assert_eq!("9000".parse::<Sizes>().unwrap().pattern(), [9000]);
        assert_eq!("64,128".parse::<Sizes>().unwrap().pattern(), [64, 128]);
    }

    #[test]
    fn what_no_frame_can_have_is_refused() {
        for text in ["63", "9217", "0", "64:0", "128-64", "small", "", "64:9999,65:9999"] {
            let error = text.parse::<Sizes>().unwrap_err();
            assert!(error.contains("expected"), "{error}");
        }
    }
}
