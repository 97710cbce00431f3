//! A vector in chunks behind `Arc`s: a copy costs one counter, a write copies one chunk and the list of chunks.

use std::sync::Arc;

const CHUNK: usize = 256;

/// A copy-on-write vector; see the module's documentation.
#[derive(Clone, Debug)]
pub(crate) struct CowVec<T> {
    chunks: Arc<[Arc<[T]>]>,
}

impl<T: Clone + Default> CowVec<T> {
    pub(crate) fn new() -> Self {
        CowVec { chunks: Arc::from(Vec::new()) }
    }

    #[inline]
    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        let index = index as usize;
        self.chunks.get(index / CHUNK)?.get(index % CHUNK)
    }

    /// Writes one element, making room with defaults.
    pub(crate) fn set(&mut self, index: u32, value: T) {
        let index = index as usize;
        if index / CHUNK >= self.chunks.len() {
            let mut grown = self.chunks.to_vec();
            let wanted = (index / CHUNK + 1).max(grown.len() + grown.len() / 2);
            grown.resize_with(wanted, || vec![T::default(); CHUNK].into());
            self.chunks = grown.into();
        }
        if let Some(slot) = Arc::make_mut(&mut self.chunks)
            .get_mut(index / CHUNK)
            .and_then(|chunk| Arc::make_mut(chunk).get_mut(index % CHUNK))
        {
            *slot = value;
        }
    }

    /// Bytes that it does not share with another.
    pub(crate) fn not_in(&self, other: &Self) -> usize {
        if Arc::ptr_eq(&self.chunks, &other.chunks) {
            return 0;
        }
        let shared = self.chunks.iter().zip(&*other.chunks).filter(|(own, other)| Arc::ptr_eq(own, other));
        self.memory() - shared.count() * CHUNK * size_of::<T>()
    }

    /// Bytes of the chunks and their list.
    pub(crate) fn memory(&self) -> usize {
        self.chunks.len() * (CHUNK * size_of::<T>() + size_of::<Arc<[T]>>() + 16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_not_seen_by_the_copy_before() {
        let mut now = CowVec::new();
        now.set(700, 7u32);
        let before = now.clone();
        now.set(700, 8);
        assert_eq!(before.get(700), Some(&7));
        assert_eq!(now.get(700), Some(&8));
        assert_eq!(now.get(0), Some(&0));
        assert_eq!(now.get(100_000), None);
    }

    #[test]
    fn a_write_copies_one_chunk_only() {
        let mut now = CowVec::new();
        now.set(1_000, 1u32);
        let before = now.clone();
        now.set(3, 9);
        assert!(!Arc::ptr_eq(&before.chunks[0], &now.chunks[0]));
        assert!(Arc::ptr_eq(&before.chunks[3], &now.chunks[3]));
        assert_eq!(before.not_in(&before.clone()), 0);
        let list = before.chunks.len() * (size_of::<Arc<[u32]>>() + 16);
        assert_eq!(before.not_in(&now), CHUNK * size_of::<u32>() + list);
    }
}
