//! Peeling: from the difference of two sketches to the identities that only one side has.

use std::collections::HashMap;

use super::mapping::Mapping;
use super::{Symbol, check_of};

/// What two copies do not share.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Identities that only the other copy has.
    pub theirs: Vec<u64>,
    /// Identities that only this copy has.
    pub ours: Vec<u64>,
}

/// Peels the difference of two sketches as symbols come in.
///
/// Feed pairs of symbols in order with [`Decoder::push`]; ask [`Decoder::is_done`] after each portion. Checks are
/// 32 bits, as they travel. A false match costs a failed reconciliation, which the
/// root digest of the commit detects: never a wrong table.
#[derive(Debug, Default)]
pub struct Decoder {
    symbols: Vec<Symbol>,
    /// Peeled identities with their next index and side, so that later symbols come in already reduced.
    found: Vec<(Mapping, u64, i64)>,
    known: HashMap<u64, i64>,
    open: usize,
}

impl Decoder {
    /// A decoder that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many symbols have come in.
    pub fn len(&self) -> usize {
        self.symbols.len()
    }

    /// Whether no symbol has come in.
    pub fn is_empty(&self) -> bool {
        self.symbols.is_empty()
    }

    /// Takes the next symbol of the other copy and of our own. Call [`Self::peel`] after a portion of them.
    pub fn push(&mut self, theirs: Symbol, ours: Symbol) {
        let mut s = Symbol {
            sum: theirs.sum ^ ours.sum,
            check: theirs.check ^ ours.check,
            count: theirs.count.wrapping_sub(ours.count),
        };
        let index = self.symbols.len() as u64;
        for (mapping, id, side) in &mut self.found {
            while mapping.index() < index {
                mapping.advance();
            }
            if mapping.index() == index {
                s.toggle(*id, check_of(*id) as u32, -*side);
            }
        }
        if s != Symbol::default() {
            self.open += 1;
        }
        self.symbols.push(s);
    }

    /// Peels all that can be peeled. Linear in what it finds.
    pub fn peel(&mut self) {
        let mut work: Vec<usize> = (0..self.symbols.len()).collect();
        while let Some(i) = work.pop() {
            let Some(&s) = self.symbols.get(i) else { continue };
            if s.count.abs() != 1 || check_of(s.sum) as u32 != s.check {
                continue;
            }
            let (id, side) = (s.sum, s.count);
            // Without this a hostile peer's symbols could be peeled for ever.
            if self.known.insert(id, side).is_some() {
                continue;
            }
            let check = check_of(id) as u32;
            let mut at = Mapping::new(id);
            while let Some(symbol) = self.symbols.get_mut(at.index() as usize) {
                let was_open = *symbol != Symbol::default();
                symbol.toggle(id, check, -side);
                match (was_open, *symbol != Symbol::default()) {
                    (true, false) => self.open -= 1,
                    (false, true) => self.open += 1,
                    _ => {}
                }
                if symbol.count.abs() == 1 {
                    work.push(at.index() as usize);
                }
                at.advance();
            }
            self.found.push((at, id, side));
        }
    }

    /// Whether everything has been peeled: symbol 0, which covers every record, is empty, and so are all others.
    pub fn is_done(&self) -> bool {
        !self.symbols.is_empty() && self.open == 0
    }

    /// What was found; complete when [`Self::is_done`].
    pub fn difference(&self) -> Difference {
        let mut d = Difference::default();
        for (_, id, side) in &self.found {
            if *side > 0 { d.theirs.push(*id) } else { d.ours.push(*id) }
        }
        d
    }
}
