//! The key of digests: what makes two tables with one digest impossible to construct.
//!
//! A digest is an incremental set hash: the XOR of the records' hashes, which a change updates in constant time. Under a key that
//! everybody knows, a set of records whose hashes cancel out is found by Gaussian elimination (Bellare and Micciancio, "A New Paradigm for
//! Collision-Free Hashing", EUROCRYPT 1997, §5.1). Whoever can announce some 130 prefixes by one of two next hops could give two route
//! servers different tables with equal digests. Under a secret key nobody outside can compute the hashes (MSet-XOR-Hash of Clarke et
//! al., "Incremental Multiset Hash Functions", ASIACRYPT 2003, §3).
//!
//! The XOR itself remains linear: who saw it before and after each change would learn enough for the elimination. So it never leaves
//! a node. What travels and what operators see, [`RootDigest`], is a pseudorandom function of it, which only reveals whether two
//! tables are equal. Coded symbols are linear too; they travel between nodes only, inside TLS.
//!
//! All nodes of a deployment have the same keys, from a file that `fibcast pki init` creates. `PROTOCOL.md` lists what is promised against
//! whom, and how to change the key without an outage.

use std::hash::Hasher;
use std::sync::Arc;

use siphasher::sip::SipHasher24;
use siphasher::sip128::{Hasher128, SipHasher24 as Sip128};

use crate::sketch::RootDigest;

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;

/// A secret key of digests, the same on all nodes of a deployment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DigestKey {
    records: (u64, u64),
    seal: (u64, u64),
}

/// Public name of a key, as in logs and in Register frames. It reveals nothing about the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct KeyId(pub u64);

impl std::fmt::Display for KeyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if *self == DigestKey::PUBLIC.id() { f.write_str("public") } else { write!(f, "{:016x}", self.0) }
    }
}

impl DigestKey {
    /// The key of nodes without a configured one: a constant of the protocol. It protects against accidents, not against adversaries.
    pub const PUBLIC: Self = Self {
        records: (0x6669_6263_6173_7421, 0x7265_636f_7264_2d32),
        seal: (0x6669_6263_6173_7421, 0x7365_616c_2d2d_2d32),
    };

    /// A key from random bytes.
    pub fn new(bytes: [u8; KEY_BYTES]) -> Self {
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_be_bytes(word)
        };
        Self { records: (word(0), word(8)), seal: (word(16), word(24)) }
    }

    /// Its public name.
    pub fn id(&self) -> KeyId {
        // Shorter than what `seal` hashes, so no digest contains it.
        KeyId(SipHasher24::new_with_keys(self.seal.0, self.seal.1).hash(b"digest key"))
    }

    /// A hasher of records.
    #[inline]
    pub(crate) fn hasher(&self) -> Sip128 {
        Sip128::new_with_keys(self.records.0, self.records.1)
    }

    /// The digest of a table whose records have these identities, from scratch.
    pub fn digest_of(&self, ids: impl IntoIterator<Item = u128>) -> RootDigest {
        let (sum, count) = ids.into_iter().fold((0, 0), |(sum, count), id| (sum ^ id, count + 1));
        self.seal(sum, count)
    }

    /// The digest of a table, from the XOR of its records' hashes and their number.
    pub(crate) fn seal(&self, sum: u128, count: u64) -> RootDigest {
        let mut h = Sip128::new_with_keys(self.seal.0, self.seal.1);
        h.write(&sum.to_le_bytes());
        h.write(&count.to_le_bytes());
        RootDigest { hash: h.finish128().as_u128(), count }
    }
}

impl Default for DigestKey {
    fn default() -> Self {
        Self::PUBLIC
    }
}

/// Shows the public name only: keys do not belong into logs.
impl std::fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DigestKey({})", self.id())
    }
}

/// The keys of a node: its own, and others that its clients may use while a key is replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DigestKeys(Arc<[DigestKey]>);

impl DigestKeys {
    /// The key for the node's own tables, and further ones that it accepts from clients.
    pub fn new(own: DigestKey, accepted: impl IntoIterator<Item = DigestKey>) -> Self {
        Self(std::iter::once(own).chain(accepted).collect())
    }

    /// The key for the node's own tables.
    pub fn own(&self) -> DigestKey {
        self.0.first().copied().unwrap_or_default()
    }

    /// All keys, the own one first.
    pub fn all(&self) -> &[DigestKey] {
        &self.0
    }

    /// The key of this name, if the node has it.
    pub fn find(&self, id: KeyId) -> Option<DigestKey> {
        self.0.iter().find(|key| key.id() == id).copied()
    }
}

impl Default for DigestKeys {
    fn default() -> Self {
        Self::new(DigestKey::PUBLIC, [])
    }
}

impl std::fmt::Display for DigestKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, key) in self.0.iter().enumerate() {
            write!(f, "{}{}", if i == 0 { "" } else { ", " }, key.id())?;
        }
        Ok(())
    }
}
