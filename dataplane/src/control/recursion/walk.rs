//! From a gateway to the next hops that lead to it: by the longest match over all routes of a VRF (RFC 4271 §9.1.2.1), and on from there.
//!
//! A match may be a connected subnet, a route by an interface alone, a host route inside a connected subnet, a blackhole: whatever packets to
//! the gateway itself would use. A route that cannot be resolved hides no connected subnet, as in zebra, which does not install it. So a host
//! route to a gateway by that gateway, or one that leads back to it, means its connected subnet.

use std::net::IpAddr;

use fibcast_fib::{Fib, Group, GroupLabel, MAX_MEMBERS, Member, NextHop, PortId, Special, VrfId};

use super::lost::Lost;
use crate::control::PortSetup;
use crate::control::next_hops::{can_be_gateway, connected};
use crate::control::own_routes::is_own;
use crate::packet::ipv6;

/// Most routes between a gateway and the neighbor that it resolves to.
pub const LEVELS: usize = 4;
/// Most gateways followed for one group, so that nested multipath routes cannot multiply without bound.
const STEPS: usize = 4_096;

/// What a resolution depends on.
#[derive(Debug, Default)]
pub struct Seen {
    /// Gateways that were looked up, with the length of the shortest prefix that may change the answer: that of the longest match, or none
    /// where any prefix of the gateway may.
    pub gateways: Vec<(IpAddr, Option<u8>)>,
    /// Groups of the routes on the way.
    pub labels: Vec<GroupLabel>,
}

/// Where a gateway leads.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Next hops with their shares, which add up to 1.
    pub hops: Vec<(NextHop, f64)>,
    /// How packets are dropped if there is no next hop.
    pub special: Option<Special>,
}

/// Resolution of one group's gateways; see the module's documentation.
pub struct Walk<'a> {
    ports: &'a [PortSetup],
    fib: &'a Fib,
    vrf: VrfId,
    /// Content of a group as it was defined, before its gateways were resolved.
    definition: &'a dyn Fn(GroupLabel) -> Option<&'a Group>,
    path: Vec<IpAddr>,
    steps: usize,
    seen: Seen,
}

impl<'a> Walk<'a> {
    /// In the VRF of the routes that use the group.
    pub fn new(
        vrf: VrfId,
        ports: &'a [PortSetup],
        fib: &'a Fib,
        definition: &'a dyn Fn(GroupLabel) -> Option<&'a Group>,
    ) -> Walk<'a> {
        Walk { ports, fib, vrf, definition, path: Vec::new(), steps: 0, seen: Seen::default() }
    }

    /// Resolves a gateway.
    ///
    /// # Errors
    /// [`Lost`] if it leads nowhere.
    pub fn resolve(&mut self, gateway: IpAddr) -> Result<Outcome, Lost> {
        let mut out = Outcome::default();
        self.follow(gateway, 1.0, &mut out).map(|()| out)
    }

    /// What the resolutions so far depend on.
    pub fn into_seen(self) -> Seen {
        self.seen
    }

    fn follow(&mut self, gateway: IpAddr, share: f64, out: &mut Outcome) -> Result<(), Lost> {
        self.steps += 1;
        if self.steps > STEPS || out.hops.len() >= MAX_MEMBERS {
            return Err(Lost::TooMany);
        }
        // RFC 4291 §2.5.6: every link has these addresses.
        if ipv6::is_link_local_v6(gateway) {
            return Err(Lost::LinkLocal);
        }
        let before = out.hops.len();
        let resolved = self.by_route(gateway, out).or_else(|reason| {
            // A subnet shorter than the match decides now, and may come, go or be replaced by another one.
            self.seen.gateways.push((gateway, None));
            let port = connected(gateway, self.vrf, self.ports).ok_or(reason)?;
            self.direct(gateway, port, 1.0, out)
        });
        // A next hop that leads nowhere leaves its share to the others of its route.
        let new = out.hops.get_mut(before..).unwrap_or_default();
        let sum: f64 = new.iter().map(|(_, part)| *part).sum();
        new.iter_mut().for_each(|(_, part)| *part *= share / sum);
        resolved
    }

    /// Follows the longest match of a gateway.
    fn by_route(&mut self, gateway: IpAddr, out: &mut Outcome) -> Result<(), Lost> {
        let matched = self.fib.longest_match(self.vrf, gateway);
        self.seen.gateways.push((gateway, matched.map(|(prefix, _)| prefix.prefix_len())));
        if self.path.contains(&gateway) {
            return Err(Lost::Loop);
        }
        let (_, label) = matched.ok_or(Lost::NoRoute)?;
        // The host's own groups do not change: a changed route gets another one.
        if !is_own(label) {
            self.seen.labels.push(label);
        }
        let group = (self.definition)(label).ok_or(Lost::NoRoute)?;
        if !can_be_gateway(gateway, self.vrf, self.ports) {
            return Err(Lost::Own);
        }
        let recursive = |member: &Member| member.next_hop.gateway.is_some();
        if self.path.len() >= LEVELS && (group.members().is_empty() || group.members().iter().any(recursive))
        {
            return Err(Lost::TooDeep);
        }
        let members = match group {
            Group::Special(Special::Local) => return Err(Lost::Own),
            Group::Special(special) => {
                out.special = Some(out.special.map_or(*special, |known| stronger(known, *special)));
                return Ok(());
            }
            Group::Hops(members) => members,
        };
        let mut resolved = Err(Lost::NoRoute);
        self.path.push(gateway);
        for member in members {
            let share = f64::from(member.weight);
            let one = match member.next_hop {
                NextHop { gateway: None, port: Some(port) } => self.direct(gateway, port, share, out),
                NextHop { gateway: Some(next), port: Some(port) } => self.settled(next, port, share, out),
                NextHop { gateway: Some(next), port: None } => self.follow(next, share, out),
                NextHop { gateway: None, port: None } => continue,
            };
            resolved = resolved.or(one);
        }
        self.path.pop();
        resolved
    }

    /// The gateway is on the link of this port.
    fn direct(&self, gateway: IpAddr, port: PortId, share: f64, out: &mut Outcome) -> Result<(), Lost> {
        // Same form as a group without recursion, so that its flows stay in place when another member recurses.
        let plain = self.vrf == VrfId::DEFAULT
            && self.path.iter().all(|on_the_way| *on_the_way == gateway)
            && connected(gateway, self.vrf, self.ports) == Some(port);
        if plain && can_be_gateway(gateway, self.vrf, self.ports) {
            out.hops.push((NextHop::via(gateway), share));
            return Ok(());
        }
        self.settled(gateway, port, share, out)
    }

    /// A gateway with its port, which may be one of another VRF (route leaking): it is a neighbor there.
    fn settled(&self, gateway: IpAddr, port: PortId, share: f64, out: &mut Outcome) -> Result<(), Lost> {
        let setup = self.ports.get(usize::from(port.0)).ok_or(Lost::NoRoute)?;
        if !can_be_gateway(gateway, setup.vrf, self.ports) {
            return Err(Lost::Own);
        }
        out.hops.push((NextHop { gateway: Some(gateway), port: Some(port) }, share));
        Ok(())
    }
}

/// Which of two ways to drop packets a group without next hops gets. Silence wins: a blackhole (RFC 5635) must not answer a flood.
pub fn stronger(one: Special, other: Special) -> Special {
    let order = [Special::Blackhole, Special::Prohibit, Special::Unreachable];
    order.into_iter().find(|special| *special == one || *special == other).unwrap_or(one)
}
