//! Forwarding trie, next-hop groups, generations and their publisher: a whole batch of route changes becomes
//! visible to every worker at one instant, and no worker waits, allocates or frees.
//!
//! Where to begin: [`types`](NextHop) has the words, [`Fib`] is the control side, [`Generation`] what a worker sees,
//! [`Publisher`] and [`Reader`] the hand-off between the two.
//!
//! ```
//! use fibcast_fib::*;
//!
//! let mut fib = Fib::new(Limits::default());
//! let hop = NextHop::via("192.0.2.1".parse()?);
//! let label = GroupLabel(7);
//! fib.apply(
//!     &[
//!         Change::PutGroup { label, group: Group::one(hop)? },
//!         Change::Announce { vrf: VrfId::DEFAULT, prefix: "10.0.0.0/8".parse()?, label },
//!     ],
//!     1,
//! )?;
//! let mut publisher = Publisher::new(fib.generation());
//! let mut reader = publisher.register("worker 0");
//!
//! let mut found = [GroupIndex::NO_ROUTE; 2];
//! let generation = reader.burst();
//! generation.lookup_v4(VrfId::DEFAULT, &[0x0a01_0203, 0x0b01_0203], &mut found);
//! assert_eq!(generation.forward(found[0], 0), Forward::Incomplete { next_hop: &hop });
//! assert_eq!(generation.forward(found[1], 0), Forward::NoRoute);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod audit;
mod change;
mod cow;
mod ecmp;
mod fib;
mod generation;
mod groups;
mod neighbors;
mod publisher;
mod sync;
mod table;
mod trie;
mod types;

pub use change::{Applied, ApplyError, Change, Limits};
pub use fib::{Counts, Fib, TRIE_BYTES};
pub use generation::{Forward, Generation, Memory};
pub use publisher::{Publisher, PublisherStats, RETIRED_LIMIT, Reader, Visibility, WorkerStamp};
pub use types::{
    Adjacency, AdjacencyState, Group, GroupError, GroupIndex, GroupLabel, MAX_MEMBERS, Member, NextHop,
    PortId, VrfId,
};
