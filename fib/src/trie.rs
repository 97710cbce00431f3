//! Longest-prefix match, copy-on-write: a tree of 4-bit steps behind `Arc`s.

use std::sync::Arc;

use crate::types::GroupIndex;

/// Both families of a VRF.
#[derive(Clone, Debug, Default)]
pub(crate) struct VrfTries {
    pub(crate) v4: Trie,
    pub(crate) v6: Trie,
}

/// An address whose first bit is the key's highest.
pub(crate) trait Address: Copy {
    fn left_aligned(self) -> u128;
}

impl Address for u32 {
    fn left_aligned(self) -> u128 {
        u128::from(self) << 96
    }
}

impl Address for u128 {
    fn left_aligned(self) -> u128 {
        self
    }
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trie {
    root: Arc<Node>,
}

/// Prefixes of 0 to 3 bits below the node's own: place 1 for the empty one, then a binary heap.
#[derive(Clone, Debug, Default)]
struct Node {
    routes: [u32; 16],
    children: [Option<Arc<Node>>; 16],
}

impl Trie {
    /// Points a prefix to a group; `NO_ROUTE` removes it.
    pub(crate) fn set(&mut self, key: u128, len: u8, group: GroupIndex) {
        set(&mut self.root, key, len, group);
    }

    pub(crate) fn lookup<A: Address>(&self, dst: &[A], out: &mut [GroupIndex]) {
        for (dst, out) in dst.iter().zip(out) {
            *out = self.longest(dst.left_aligned());
        }
    }

    fn longest(&self, mut key: u128) -> GroupIndex {
        let mut best = 0;
        let mut node = Some(&self.root);
        while let Some(here) = node {
            let nibble = (key >> 124) as usize;
            for place in [1, 2 + (nibble >> 3), 4 + (nibble >> 2), 8 + (nibble >> 1)] {
                if here.routes[place] != 0 {
                    best = here.routes[place];
                }
            }
            node = here.children[nibble].as_ref();
            key <<= 4;
        }
        GroupIndex(best)
    }

    pub(crate) fn memory(&self) -> usize {
        fn bytes(node: &Arc<Node>) -> usize {
            size_of::<Node>() + 16 + node.children.iter().flatten().map(bytes).sum::<usize>()
        }
        bytes(&self.root)
    }
}

/// Returns whether the node is empty afterwards.
fn set(node: &mut Arc<Node>, key: u128, len: u8, group: GroupIndex) -> bool {
    let node = Arc::make_mut(node);
    let nibble = (key >> 124) as usize;
    if len < 4 {
        let place = (1 << len) + (nibble >> (4 - len));
        node.routes[place] = group.0;
    } else {
        let child = node.children[nibble].get_or_insert_default();
        if set(child, key << 4, len - 4, group) {
            node.children[nibble] = None;
        }
    }
    node.routes.iter().all(|&route| route == 0) && node.children.iter().all(Option::is_none)
}
