//! Memory that a server holds for its clients, counted in bytes where it is allocated and freed.
//!
//! An [`Account`] is the sum; a [`Charge`] is a part of it, returned when it is dropped. Encoded bytes that several sessions send are one
//! [`SharedBytes`]: they count once, as long as one of the sessions or the cache has them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that are held for all clients of a server.
#[derive(Debug, Clone, Default)]
pub(crate) struct Account(Arc<AtomicUsize>);

impl Account {
    pub fn total(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// A charge of no bytes yet.
    pub fn open(&self) -> Charge {
        Charge { account: self.clone(), bytes: 0 }
    }

    pub fn share(&self, bytes: Vec<u8>) -> Arc<SharedBytes> {
        let mut charge = self.open();
        charge.set(bytes.len());
        Arc::new(SharedBytes { bytes: bytes.into(), _charge: charge })
    }
}

/// Bytes that one owner has taken from an account.
#[derive(Debug, Default)]
pub(crate) struct Charge {
    account: Account,
    bytes: usize,
}

impl Charge {
    pub fn set(&mut self, bytes: usize) {
        if bytes >= self.bytes {
            self.account.0.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else {
            self.account.0.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// Encoded bytes that sessions share.
#[derive(Debug)]
pub(crate) struct SharedBytes {
    bytes: Box<[u8]>,
    _charge: Charge,
}

impl std::ops::Deref for SharedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_bytes_count_once_and_until_the_last_owner_drops_them() {
        let account = Account::default();
        let first = account.share(vec![0; 100]);
        let second = Arc::clone(&first);
        let mut own = account.open();
        own.set(30);
        own.set(20);
        assert_eq!((account.total(), own.bytes()), (120, 20));
        drop(first);
        assert_eq!(account.total(), 120);
        drop((second, own));
        assert_eq!(account.total(), 0);
    }
}
