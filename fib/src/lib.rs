//! The forwarding table of a NIC host: route tries, next-hop groups, generations and their publisher. A whole batch of route changes
//! becomes visible to every worker at one instant, and no worker waits, allocates or frees memory.
//!
//! The control thread owns [`Fib`] and [`Publisher`]; each worker owns a [`Reader`] and sees an immutable [`Generation`].
//!
//! | module, in reading order | holds |
//! |---|---|
//! | `types` | [`VrfId`], [`GroupLabel`], [`NextHop`], [`Group`], [`Adjacency`] |
//! | `change` | [`Change`], [`Limits`], [`Applied`], [`ApplyError`] |
//! | `fib` | [`Fib`]: validates and applies a batch, stages a generation |
//! | `groups`, `ecmp`, `neighbors` | next-hop groups, their weighted flow buckets, directly connected hosts |
//! | `table`, `trie` | routes of a VRF, and the blocks that lookups read |
//! | `generation` | [`Generation`]: lookup and forwarding decision of a worker |
//! | `scrub` | comparison of what workers read with the control side's records |
//! | `publisher`, `audit`, `sync` | [`Publisher`] and [`Reader`]: pointer swap, deferred freeing, and the check that no worker frees |
//!
//! # Bad input
//!
//! A batch with any error in it is refused as a whole, and the error names the route or group. Half a batch would be a table that no server
//! ever committed, and a forwarder that guesses which half was meant loses packets where nobody looks for them. The table, the groups and
//! the published generation are unchanged. A batch that only lacks room ([`ApplyError::is_capacity`]) may be retried.
//!
//! | input | error |
//! |---|---|
//! | prefix length over 32 or 128 | cannot be made: `ipnet` refuses it |
//! | host bits set | [`ApplyError::HostBits`] |
//! | group that does not exist, or that the same batch deletes | [`ApplyError::UnknownLabel`] |
//! | VRF that does not exist | [`ApplyError::UnknownVrf`] |
//! | no members, more than [`MAX_MEMBERS`], weight 0, a member without gateway and port | [`ApplyError::BadGroup`] |
//! | exceeded limit | [`ApplyError::TooManyRoutes`], [`TooManyGroups`](ApplyError::TooManyGroups),
//! [`TooManyVrfs`](ApplyError::TooManyVrfs), [`TooManyNeighbors`](ApplyError::TooManyNeighbors), [`TrieMemory`](ApplyError::TrieMemory) |
//! | withdrawal of an unknown prefix, deletion of an unknown group | none: counted, or ignored, because the table already is in the
//! requested state |
//! | withdrawal of a prefix that is not there, deletion of a group that is not there | none: counted, or ignored, because the end state is what was wanted |
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
mod scrub;
mod sync;
mod table;
mod trie;
mod types;

pub use change::{Applied, ApplyError, Change, Limits, TRIE_BYTES};
pub use fib::Fib;
pub use generation::{Forward, Generation, Memory};
pub use publisher::{Publisher, PublisherStats, RETIRED_BYTES, Reader, Visibility, WorkerStamp};
pub use scrub::{ScrubCursor, Scrubbed, WrongLookup};
pub use table::Counts;
pub use types::{
    Adjacency, AdjacencyState, Group, GroupError, GroupIndex, GroupLabel, MAX_MEMBERS, Member, NextHop,
    PortId, SingleHop, Special, VrfId,
};
