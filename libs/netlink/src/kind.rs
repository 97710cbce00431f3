//! `RTM_*` and `NLMSG_*` numbers.

/// Nothing.
pub(crate) const NOOP: u16 = 1;
/// An error or an acknowledgement.
pub const ERROR: u16 = 2;
/// The end of a dump.
pub const DONE: u16 = 3;
/// A link is there or changed.
pub const NEW_LINK: u16 = 16;
/// A link is gone.
pub const DEL_LINK: u16 = 17;
/// Asks for links.
pub(crate) const GET_LINK: u16 = 18;
/// An address is there.
pub const NEW_ADDRESS: u16 = 20;
/// An address is gone.
pub const DEL_ADDRESS: u16 = 21;
/// Asks for addresses.
pub(crate) const GET_ADDRESS: u16 = 22;
/// A route is there or changed.
pub const NEW_ROUTE: u16 = 24;
/// A route is gone.
pub const DEL_ROUTE: u16 = 25;
/// Asks for routes.
pub(crate) const GET_ROUTE: u16 = 26;
/// A rule is there.
pub const NEW_RULE: u16 = 32;
/// A rule is gone.
pub const DEL_RULE: u16 = 33;
/// Asks for rules.
pub(crate) const GET_RULE: u16 = 34;
/// A next-hop object is there or changed.
pub const NEW_NEXTHOP: u16 = 104;
/// A next-hop object is gone.
pub const DEL_NEXTHOP: u16 = 105;
/// Asks for next-hop objects.
pub(crate) const GET_NEXTHOP: u16 = 106;
