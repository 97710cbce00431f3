//! Which destination is next, and from which port.
//!
//! Flows are sorted by the port that they enter by. The ports take turns by their weights, and each goes through its own flows, in turn or
//! by Zipf's law, so that memory is read in order.

use std::ops::Range;
use std::str::FromStr;

use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use serde::Deserialize;

/// Longest sequence of ports.
const MOST_TURNS: u32 = 4_096;
/// Length of a random sequence of flows, after which it repeats.
const SAMPLES: usize = 1 << 20;

/// By which port traffic enters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Direction {
    /// By all ports in turn, to destinations behind all of them, the port itself included.
    #[default]
    Mesh,
    /// By the first port, to destinations behind the others.
    Unidirectional,
    /// By all ports equally, to destinations behind others.
    Bidirectional,
    /// By each port so often, to destinations behind others.
    Asymmetric(Vec<u32>),
}

impl TryFrom<String> for Direction {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for Direction {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "mesh" => Ok(Self::Mesh),
            "unidirectional" => Ok(Self::Unidirectional),
            "bidirectional" => Ok(Self::Bidirectional),
            _ => {
                let weights: Result<Vec<u32>, _> = text.split(':').map(str::parse).collect();
                match weights {
                    Ok(weights)
                        if weights.len() > 1
                            && (1..=MOST_TURNS).contains(
                                &weights.iter().fold(0, |sum: u32, &weight| sum.saturating_add(weight)),
                            ) =>
                    {
                        Ok(Self::Asymmetric(weights))
                    }
                    _ => Err(format!(
                        "direction {text:?}: expected mesh, unidirectional, bidirectional, or the ports' shares such as 9:1"
                    )),
                }
            }
        }
    }
}

impl Direction {
    /// The port by which a flow enters that leaves by `egress`, of so many ports; `number` spreads flows. None: no port may.
    pub fn ingress(&self, number: usize, egress: Option<usize>, ports: usize) -> Option<usize> {
        let others: Vec<usize> = match self {
            Self::Mesh => return Some(number % ports.max(1)),
            Self::Unidirectional => vec![0],
            Self::Bidirectional => (0..ports).collect(),
            Self::Asymmetric(weights) => {
                (0..ports).filter(|&port| weights.get(port).is_some_and(|&weight| weight > 0)).collect()
            }
        };
        let may: Vec<usize> = others.into_iter().filter(|&port| Some(port) != egress).collect();
        may.get(number % may.len().max(1)).copied()
    }

    /// Ports that send.
    pub fn senders(&self, ports: usize) -> usize {
        self.weights(ports).iter().filter(|&&weight| weight > 0).count()
    }

    fn weights(&self, ports: usize) -> Vec<u32> {
        match self {
            Self::Mesh | Self::Bidirectional => vec![1; ports],
            Self::Unidirectional => (0..ports).map(|port| u32::from(port == 0)).collect(),
            Self::Asymmetric(weights) => {
                (0..ports).map(|port| weights.get(port).copied().unwrap_or(0)).collect()
            }
        }
    }
}

#[derive(Debug, Clone)]
struct Lane {
    flows: Range<u32>,
    /// Offsets within `flows`, if they are not visited in turn.
    samples: Vec<u32>,
    at: usize,
}

/// The order of flows.
#[derive(Debug, Clone)]
pub struct Order {
    lanes: Vec<Lane>,
    /// Ports in turn.
    turns: Vec<u8>,
    turn: usize,
}

impl Order {
    /// `lanes` are the flows that enter by each port. `zipf` is the exponent of Zipf's law: the n-th flow is visited in proportion to
    /// 1 / n^zipf. A port that sends and has no flow is the error.
    pub fn new(
        lanes: &[Range<u32>],
        direction: &Direction,
        zipf: Option<f64>,
        seed: u64,
    ) -> Result<Self, usize> {
        let mut weights = direction.weights(lanes.len());
        if *direction == Direction::Mesh {
            // A small table may not have a flow for each.
            for (weight, lane) in weights.iter_mut().zip(lanes) {
                *weight = u32::from(!lane.is_empty());
            }
        }
        if weights.iter().all(|&weight| weight == 0) {
            return Err(0);
        }
        if let Some(port) =
            weights.iter().zip(lanes).position(|(&weight, lane)| weight > 0 && lane.is_empty())
        {
            return Err(port);
        }
        let mut random = SmallRng::seed_from_u64(seed);
        let samples = |flows: &Range<u32>, random: &mut SmallRng| match zipf {
            Some(exponent) => zipf_samples(flows.len(), exponent, random),
            None => Vec::new(),
        };
        let lanes = lanes.iter().map(|flows| Lane {
            flows: flows.clone(),
            samples: samples(flows, &mut random),
            at: 0,
        });
        Ok(Self { lanes: lanes.collect(), turns: spread(&weights), turn: 0 })
    }

    /// The next flow.
    #[inline(always)]
    pub fn next(&mut self) -> Option<u32> {
        let port = *self.turns.get(self.turn)?;
        self.turn += 1;
        if self.turn == self.turns.len() {
            self.turn = 0;
        }
        let lane = self.lanes.get_mut(usize::from(port))?;
        let all = if lane.samples.is_empty() { lane.flows.len() } else { lane.samples.len() };
        let at = lane.at;
        lane.at += 1;
        if lane.at >= all {
            lane.at = 0;
        }
        match lane.samples.get(at) {
            Some(&offset) => Some(lane.flows.start + offset),
            None => Some(lane.flows.start + at as u32).filter(|flow| lane.flows.contains(flow)),
        }
    }
}

/// A sequence in which each number occurs by its weight, spread evenly.
fn spread(weights: &[u32]) -> Vec<u8> {
    let total: u32 = weights.iter().sum();
    let mut credit = vec![0_i64; weights.len()];
    let mut sequence = Vec::new();
    for _ in 0..total {
        credit.iter_mut().zip(weights).for_each(|(credit, &weight)| *credit += i64::from(weight));
        let most =
            (0..credit.len()).max_by_key(|&at| (credit.get(at).copied(), std::cmp::Reverse(at))).unwrap_or(0);
        if let Some(credit) = credit.get_mut(most) {
            *credit -= i64::from(total);
        }
        sequence.push(most as u8);
    }
    sequence
}

fn zipf_samples(flows: usize, exponent: f64, random: &mut SmallRng) -> Vec<u32> {
    let mut sum = 0.0;
    let cumulative: Vec<f64> = (1..=flows)
        .map(|rank| {
            sum += (rank as f64).powf(-exponent);
            sum
        })
        .collect();
    let mut samples: Vec<u32> = (0..SAMPLES)
        .map(|_| {
            let point = random.random::<f64>() * sum;
            cumulative.partition_point(|&upto| upto < point).min(flows.saturating_sub(1)) as u32
        })
        .collect();
    samples.shuffle(random);
    samples
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(order: &mut Order, packets: usize, flows: usize) -> Vec<usize> {
        let mut counts = vec![0; flows];
        (0..packets).for_each(|_| counts[order.next().unwrap() as usize] += 1);
        counts
    }

    #[test]
    fn directions_are_read() {
        assert_eq!("9:1".parse(), Ok(Direction::Asymmetric(vec![9, 1])));
        assert_eq!("bidirectional".parse(), Ok(Direction::Bidirectional));
        for text in ["", "9", "0:0", "1:x", "both", "4000:4000"] {
            assert!(text.parse::<Direction>().unwrap_err().contains("expected mesh"), "{text}");
        }
    }

    #[test]
    fn no_flow_enters_where_it_leaves_but_in_a_mesh() {
        for number in 0..6 {
            for egress in 0..3 {
                assert_ne!(Direction::Bidirectional.ingress(number, Some(egress), 3), Some(egress));
                let only = Direction::Unidirectional.ingress(number, Some(egress), 3);
                assert_eq!(only, (egress != 0).then_some(0));
            }
            assert_eq!(Direction::Mesh.ingress(number, Some(0), 3), Some(number % 3));
            assert_eq!(Direction::Asymmetric(vec![0, 1]).ingress(number, Some(0), 2), Some(1));
        }
    }

    #[test]
    fn ports_have_their_shares_and_all_flows_their_turn() {
        let lanes = [0..10, 10..40];
        let mut order = Order::new(&lanes, &Direction::Asymmetric(vec![9, 1]), None, 1).unwrap();
        let counts = count(&mut order, 3_000, 40);
        assert_eq!(counts[..10].iter().sum::<usize>(), 2_700);
        assert!(
            counts[..10].iter().all(|&count| count == 270) && counts[10..].iter().all(|&count| count == 10)
        );
    }

    #[test]
    fn zipf_prefers_the_first_flows_by_its_law() {
        let mut order =
            Order::new(std::slice::from_ref(&(0..1000)), &Direction::Unidirectional, Some(1.0), 7).unwrap();
        let counts = count(&mut order, SAMPLES, 1000);
        // The harmonic sum of 1000 is 7.4855.
        let share = counts[0] as f64 / SAMPLES as f64;
        assert!((share - 1.0 / 7.4855).abs() < 0.003, "{share}");
        assert!((counts[0] as f64 / counts[9] as f64 - 10.0).abs() < 0.6);
    }

    #[test]
    fn port_without_a_flow_is_named() {
        assert_eq!(Order::new(&[0..5, 5..5], &Direction::Bidirectional, None, 1).unwrap_err(), 1);
        let mut order = Order::new(&[0..5, 5..5], &Direction::Mesh, None, 1).unwrap();
        assert_eq!(count(&mut order, 10, 5), [2; 5]);
    }
}
