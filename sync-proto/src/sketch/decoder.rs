//! Peeling: computes from two sketches the identities that only one side has.

use std::collections::HashMap;

use super::mapping::Mapping;
use super::{Symbol, check_of};

/// The difference of two copies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Identities that only the other copy has.
    pub theirs: Vec<u64>,
    /// Identities that only this copy has.
    pub ours: Vec<u64>,
}

/// Peels the difference of two sketches as symbols arrive.
///
/// Pass pairs of symbols in order to [`SketchDecoder::push`]; check [`SketchDecoder::is_done`] after each portion. Checks have 32 bits, as
/// on the wire. A false match costs a failed reconciliation, which the root digest of the commit detects: never a wrong table.
#[derive(Debug, Default)]
pub struct SketchDecoder {
    symbols: Vec<Symbol>,
    /// Peeled identities with their next index and side, so that later symbols are reduced on arrival.
    found: Vec<(Mapping, u64, i64)>,
    known: HashMap<u64, i64>,
    open: usize,
}

impl SketchDecoder {
    /// A decoder without symbols.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of symbols pushed.
    pub fn len(&self) -> usize {
        self.symbols.len()
    }

    /// Whether no symbol was pushed.
    pub fn is_empty(&self) -> bool {
        self.symbols.is_empty()
    }

    /// Adds the next symbol of the other copy and of our own. Call [`Self::peel`] after a portion of them.
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

    /// Peels everything that can be peeled, in time linear in the result.
    pub fn peel(&mut self) {
        let mut work: Vec<usize> = (0..self.symbols.len()).collect();
        while let Some(i) = work.pop() {
            let Some(&s) = self.symbols.get(i) else { continue };
            if s.count.abs() != 1 || check_of(s.sum) as u32 != s.check {
                continue;
            }
            let (id, side) = (s.sum, s.count);
            // Without this limit a hostile peer's symbols could be peeled forever.
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

    /// The identities found; complete if [`Self::is_done`].
    pub fn difference(&self) -> Difference {
        let mut d = Difference::default();
        for (_, id, side) in &self.found {
            if *side > 0 { d.theirs.push(*id) } else { d.ours.push(*id) }
        }
        d
    }
}
