//! Rates: packets/s, bit/s, or percent of the line.
//!
//! Bits are those of frames with FCS. A line also carries a preamble of 8 bytes and a gap of 12 bytes with each frame (IEEE 802.3), so
//! 100 % of 10 Gbit/s are 14.88 million frames of 64 bytes in a second (RFC 2544 §20).

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// Preamble, start of frame, and gap between frames.
pub const LINE_OVERHEAD: f64 = 20.0;

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "Text")]
pub enum Rate {
    PacketsPerSecond(f64),
    BitsPerSecond(f64),
    Percent(f64),
}

/// A number of packets/s, or a text with a unit.
#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Number(f64),
    Text(String),
}

impl TryFrom<Text> for Rate {
    type Error = String;

    fn try_from(text: Text) -> Result<Self, String> {
        match text {
            Text::Number(number) => number.to_string().parse(),
            Text::Text(text) => text.parse(),
        }
    }
}

impl Rate {
    /// Packets/s of frames with this mean size (with FCS), on lines with this sum of bit/s.
    ///
    /// # Errors
    /// A percentage of lines that nobody knows.
    pub fn packets(self, mean_size: f64, line: Option<f64>) -> Result<f64, String> {
        match self {
            Rate::PacketsPerSecond(rate) => Ok(rate),
            Rate::BitsPerSecond(bits) => Ok(bits / (mean_size * 8.0)),
            Rate::Percent(percent) => {
                let line =
                    line.ok_or("a rate in percent needs the speed of each port's line: line_rate=10Gbit/s")?;
                Ok(line / ((mean_size + LINE_OVERHEAD) * 8.0) * percent / 100.0)
            }
        }
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "rate {text:?}: expected a number above 0 with pps, bit/s or %, such as 1.5Mpps, 10Gbit/s, 50%"
            )
        };
        let trimmed = text.trim();
        let end = trimmed.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(end);
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let unit = unit.trim();
        let (factor, unit) = match unit.chars().next() {
            Some('k' | 'K') => (1e3, unit.get(1..)),
            Some('M') => (1e6, unit.get(1..)),
            Some('G') => (1e9, unit.get(1..)),
            _ => (1.0, Some(unit)),
        };
        let value = number * factor;
        if !(value.is_finite() && value > 0.0) {
            return Err(wrong());
        }
        match (unit, factor == 1.0) {
            (Some("%"), true) => Ok(Rate::Percent(value)),
            (Some("" | "pps"), _) => Ok(Rate::PacketsPerSecond(value)),
            (Some("bit/s" | "bit" | "bps"), _) => Ok(Rate::BitsPerSecond(value)),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rate::PacketsPerSecond(rate) => write!(f, "{}pps", Short(*rate)),
            Rate::BitsPerSecond(rate) => write!(f, "{}bit/s", Short(*rate)),
            Rate::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// A number with k, M or G and at most four significant digits, for people.
#[derive(Debug, Clone, Copy)]
pub struct Short(pub f64);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (value, unit) = match self.0 {
            value if value >= 1e9 => (value / 1e9, "G"),
            value if value >= 1e6 => (value / 1e6, "M"),
            value if value >= 1e3 => (value / 1e3, "k"),
            value => (value, ""),
        };
        let digits = if value >= 100.0 {
            1
        } else if value >= 10.0 {
            2
        } else {
            3
        };
        let text = format!("{value:.digits$}");
        write!(f, "{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read() {
        for (text, rate) in [
            ("250000", Rate::PacketsPerSecond(250_000.0)),
            ("1.5Mpps", Rate::PacketsPerSecond(1.5e6)),
            ("14k", Rate::PacketsPerSecond(14_000.0)),
            ("10Gbit/s", Rate::BitsPerSecond(1e10)),
            ("500 Mbps", Rate::BitsPerSecond(5e8)),
            ("12.5%", Rate::Percent(12.5)),
        ] {
            assert_eq!(text.parse(), Ok(rate), "{text}");
        }
        assert_eq!(Rate::BitsPerSecond(1e10).to_string(), "10Gbit/s");
        assert_eq!(Rate::PacketsPerSecond(14_880_952.0).to_string(), "14.88Mpps");
    }

    #[test]
    fn what_is_no_rate_is_refused() {
        for text in ["0", "0%", "-1", "fast", "5k%", "10 furlongs", "", "1e400"] {
            let error = text.parse::<Rate>().unwrap_err();
            assert!(error.contains("expected a number above 0"), "{text}: {error}");
        }
    }

    /// RFC 2544 §20 and the well-known figures of 10 Gigabit Ethernet.
    #[test]
    fn line_rate_counts_preamble_and_gap() {
        let packets = Rate::Percent(100.0).packets(64.0, Some(1e10)).unwrap();
        assert_eq!(packets.floor(), 14_880_952.0);
        assert_eq!(Rate::Percent(100.0).packets(1518.0, Some(1e10)).unwrap().floor(), 812_743.0);
        assert_eq!(Rate::BitsPerSecond(512e6).packets(64.0, None), Ok(1e6));
        assert!(Rate::Percent(1.0).packets(64.0, None).unwrap_err().contains("line_rate"));
    }
}
