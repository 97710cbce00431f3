//! Deliberate faults, which show that the simulator detects such faults.
//!
//! With the feature `mutations` a thread selects one fault with [`select`], and the state machines on that thread have it from then on.
//! Without the feature, which no daemon is built with, [`on`] is the constant `false` and the code is removed.

/// Declares the faults with their names and effects.
macro_rules! mutations {
    ($($variant:ident $name:literal $what:literal,)*) => {
        /// A deliberate fault.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Mutation {
            $(#[doc = $what] $variant,)*
        }

        impl Mutation {
            /// All faults.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Name on a command line.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Its effect.
            pub const fn what(self) -> &'static str {
                match self { $(Self::$variant => $what,)* }
            }
        }
    };
}

mutations! {
    SkipComparison "skip-comparison" "a server treats every client's table as equal, without comparing digests",
    ForgetTombstone "forget-tombstone" "a deletion is not remembered in the change order",
    ForgetHorizon "forget-horizon" "tombstones are forgotten without moving the horizon",
    ForgetSketch "forget-sketch" "a withdrawn route stays in the sketch",
    RoutesBeforeGroups "routes-before-groups" "a batch names routes before the groups they use",
    LoseLastChange "lose-last-change" "the last change before a commit is not sent",
    BatchTwice "batch-twice" "a batch is sent twice",
    EmptyBatch "empty-batch" "a batch is sent though nothing has changed",
    DropWalkTail "drop-walk-tail" "changes during a walk through the table are not sent at its end",
    WrongSerial "wrong-serial" "after a reconciliation the server believes the client one serial behind",
    PublishHalf "publish-half" "a client applies the first half of a batch and treats it as complete",
    KeepOwnRecords "keep-own-records" "after a reconciliation a client keeps what only it had",
    DropLease "drop-lease" "the lease of an origin never expires",
    RefreshRelayed "refresh-relayed" "a relay of an origin refreshes its lease",
    IgnoreEpoch "ignore-epoch" "a client continues from its serial on a server with another epoch",
    AcceptUnready "accept-unready" "a client uses a server that is not ready",
    NeverFailBack "never-fail-back" "a client never fails back to its first choice",
    FailBackAtOnce "fail-back-at-once" "a client fails back without waiting",
    DeafToSilence "deaf-to-silence" "a client does not drop a silent server",
    EmptyOnLoss "empty-on-loss" "a client deletes everything when it loses its server",
    NoStopping "no-stopping" "a client that left a server treats its late data as an answer",
    IgnoreLag "ignore-lag" "a client stays with a server that announces commits and sends none",
    KeepSilentClient "keep-silent-client" "a server never drops a silent client",
    StayReady "stay-ready" "a relay that lost its servers stays ready",
    ForgetPin "forget-pin" "an agent forgets deletions that its sink has not seen",
    IgnoreExpiry "ignore-expiry" "an agent without a capable server forwards forever, whatever its configuration is",
    DropFailedBatch "drop-failed-batch" "an agent treats a batch that its sink failed to apply as applied",
    ReadyTooEarly "ready-too-early" "an agent is ready as soon as it has a table, in sync with a server or not",
    ResyncKeepsSerial "resync-keeps-serial" "a resync gives the sink only what it did not have before",
    ReadyBeforeSources "ready-before-sources" "a route server is ready before the end of its sources' tables",
    AcknowledgeAccepted "acknowledge-accepted" "an agent reports what its sink accepted as installed",
    ForgetDownstream "forget-downstream" "a relay reports what its own sink forwards by, whatever its clients do",
    HideRefusals "hide-refusals" "a client reports what is installed and not which routes its sink refused",
    ForgetRefusalsBelow "forget-refusals-below" "a relay reports what its own sink refuses, whatever its clients refuse",
    AnnounceRefused "announce-refused" "a route server tells its sources that a refused route is installed",
    KeepDeadOrigin "keep-dead-origin" "a route server keeps the routes of a peer that is gone",
}

#[cfg(feature = "mutations")]
mod chosen {
    use super::Mutation;
    use std::cell::Cell;

    thread_local! {
        static CHOSEN: Cell<Option<Mutation>> = const { Cell::new(None) };
    }

    /// Selects this thread's fault, or none.
    pub fn select(mutation: Option<Mutation>) {
        CHOSEN.set(mutation);
    }

    /// Whether the state machines have this fault.
    pub fn on(mutation: Mutation) -> bool {
        CHOSEN.get() == Some(mutation)
    }
}

#[cfg(feature = "mutations")]
pub use chosen::{on, select};

/// Whether the state machines have this fault: never.
#[cfg(not(feature = "mutations"))]
#[inline(always)]
pub const fn on(_: Mutation) -> bool {
    false
}
