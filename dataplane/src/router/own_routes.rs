//! Routes that operators add and take back at run time: until the next start, or saved for good.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{MutexGuard, PoisonError};

use fibcast_control::about::RunningConfig;
use fibcast_control::protocol::OwnRoute;
use fibcast_fib::VrfId;
use ipnet::IpNet;

use super::show::{CONTROL_TIMEOUT, View, late};
use crate::config::{Route, SavedRoutes, Via};

/// What operators added.
#[derive(Debug, Default)]
pub(super) struct OperatorRoutes {
    saved: SavedRoutes,
    /// Until the next start.
    temporary: BTreeMap<(u32, IpNet), Route>,
}

impl OperatorRoutes {
    /// At the start there are only those that were saved.
    pub fn new(saved: SavedRoutes) -> Self {
        Self { saved, temporary: BTreeMap::new() }
    }

    /// Forgets routes until the next start that something else has replaced.
    pub fn forget_temporary(&mut self, replaced: impl Fn((u32, IpNet)) -> bool) {
        self.temporary.retain(|key, _| !replaced(*key));
    }

    /// Whether a route to this destination is saved.
    pub fn is_saved(&self, vrf: u32, prefix: IpNet) -> bool {
        self.saved.contains(vrf, prefix)
    }
}

impl View {
    /// Held while the file and the control side change, so that both have the same order of changes.
    pub(super) fn operators(&self) -> MutexGuard<'_, OperatorRoutes> {
        self.operators.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a route of this host's own; says what was done, as the others do.
    pub(super) fn add_route(&self, route: &OwnRoute) -> Result<String, String> {
        let wanted = as_configured(route)?;
        let made = self.config().route(&wanted).map_err(|(key, reason)| format!("{key}: {reason}"))?;
        let key = (wanted.vrf, wanted.prefix);
        let said = format!("vrf {}: {} is a route of this host", wanted.vrf, wanted.prefix);
        let mut operators = self.operators();
        if route.save {
            operators.saved.put(wanted.clone())?;
        }
        self.control.ask_mut(CONTROL_TIMEOUT, move |c| c.add_route(&made)).ok_or_else(late)?;
        if route.save {
            operators.temporary.remove(&key);
            let file = operators.saved.file().map(|file| file.display().to_string()).unwrap_or_default();
            return Ok(format!("{said}, saved in {file}"));
        }
        operators.temporary.insert(key, wanted);
        let next = if operators.is_saved(key.0, key.1) { ", when the saved one counts again" } else { "" };
        Ok(format!("{said} until the next start{next}"))
    }

    /// Takes such a route back.
    pub(super) fn delete_route(&self, vrf: u32, prefix: IpNet, save: bool) -> Result<String, String> {
        let mut operators = self.operators();
        let was_saved = operators.is_saved(vrf, prefix);
        let configured = self.config().routes.iter().find(|r| (r.vrf, r.prefix) == (vrf, prefix)).cloned();
        if save && !was_saved {
            return Err(match configured {
                Some(_) => format!(
                    "vrf {vrf}: {prefix} is in the configuration, which no command changes: remove it there and reload"
                ),
                None => format!(
                    "vrf {vrf}: no route to {prefix} is saved; without --save it is removed until the next start"
                ),
            });
        }
        if save {
            operators.saved.remove(vrf, prefix)?;
        }
        // That of the configuration, which the saved one replaced.
        let back = configured.filter(|_| save).and_then(|route| self.config().route(&route).ok());
        let came_back = back.is_some();
        let removed = self.control.ask_mut(CONTROL_TIMEOUT, move |control| match back {
            Some(route) => {
                control.add_route(&route);
                Ok(())
            }
            None => control.remove_route(VrfId(vrf), prefix),
        });
        let removed = removed.ok_or_else(late)?;
        operators.temporary.remove(&(vrf, prefix));
        // One that was removed before until the next start is not there any more.
        if !save {
            removed.map_err(|error| error.to_string())?;
        }
        let said = format!("vrf {vrf}: {prefix} is as the ");
        Ok(match (came_back, save, was_saved) {
            (true, ..) => said + "configuration says, no route is saved any more",
            (_, true, _) => said + "servers say, no route is saved any more",
            (_, false, true) => {
                said + "servers say until the next start, when the saved route counts again (--save forgets it)"
            }
            (_, false, false) => said + "servers say",
        })
    }

    /// Adds operators' routes to the configuration that is shown.
    pub fn complete(&self, config: &mut RunningConfig) {
        let operators = self.operators();
        config.saved_routes = operators.saved.routes().iter().map(as_asked).collect();
        config.temporary_routes = operators.temporary.values().map(as_asked).collect();
        let file = operators.saved.file().map(|file| file.display().to_string()).unwrap_or_default();
        let saved = operators.saved.routes().iter().map(|route| (format!("saved in {file}"), route));
        let temporary = operators.temporary.values().map(|route| ("until the next start".to_owned(), route));
        for (what, route) in saved.chain(temporary) {
            // Writing to a String cannot fail, and a route is a table.
            let _ = write!(
                config.toml,
                "\n# {what}\n[[static_route]]\n{}",
                toml::to_string(route).unwrap_or_default()
            );
        }
    }
}

/// A route of an operator as a section of the file.
fn as_configured(route: &OwnRoute) -> Result<Route, String> {
    let special = |name: &str| route.special.as_deref() == Some(name);
    if let Some(other) = &route.special
        && !["blackhole", "unreachable", "prohibit"].contains(&other.as_str())
    {
        return Err(format!("special: expected blackhole, unreachable or prohibit, found {other:?}"));
    }
    Ok(Route {
        prefix: route.prefix.ok_or("prefix: expected one")?,
        vrf: route.vrf,
        via: (!route.via.is_empty()).then(|| Via::Many(route.via.clone())),
        port: route.port.clone(),
        onlink: route.onlink,
        weights: route.weights.clone(),
        blackhole: special("blackhole"),
        unreachable: special("unreachable"),
        prohibit: special("prohibit"),
    })
}

/// The other way round.
fn as_asked(route: &Route) -> OwnRoute {
    let special =
        [("blackhole", route.blackhole), ("unreachable", route.unreachable), ("prohibit", route.prohibit)];
    OwnRoute {
        vrf: route.vrf,
        prefix: Some(route.prefix),
        via: route.via.as_ref().map_or_else(Vec::new, |via| via.gateways().to_vec()),
        port: route.port.clone(),
        onlink: route.onlink,
        weights: route.weights.clone(),
        special: special.into_iter().find(|(_, is)| *is).map(|(name, _)| name.to_owned()),
        save: false,
    }
}
