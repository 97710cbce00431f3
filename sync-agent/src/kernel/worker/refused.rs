//! Reports to the agent which routes the kernel does not forward by: what it refused, what cannot be written, and what others shadow.

use std::collections::HashMap;

use super::super::foreign::ForeignRoute;
use super::super::route::Unfit;
use super::super::table::RouteKey;
use super::Worker;
use crate::sink::{Reason, Refusals};

/// The reason why a group cannot be written.
pub(super) fn of_unfit(unfit: &Unfit) -> Reason {
    match unfit {
        Unfit::Port(_) => Reason::UnknownPort,
        Unfit::Local | Unfit::NoGateway | Unfit::OwnAddress(_) | Unfit::Family(_) | Unfit::NoServer => {
            Reason::Unsupported
        }
    }
}

/// What the worker knows of routes that the kernel does not forward by; those that the operator accepts are left out.
struct NotForwarded<'w> {
    refused: Option<[&'w HashMap<RouteKey, Reason>; 2]>,
    shadowed: Option<&'w HashMap<RouteKey, ForeignRoute>>,
}

impl NotForwarded<'_> {
    fn refused(&self, key: &RouteKey) -> Option<Reason> {
        self.refused.iter().flatten().find_map(|some| some.get(key)).copied()
    }

    /// Shadowed only.
    fn shadowed(&self) -> impl Iterator<Item = RouteKey> {
        self.shadowed.into_iter().flat_map(HashMap::keys).copied().filter(|key| self.refused(key).is_none())
    }

    fn show(&self, list: &mut Refusals) -> bool {
        let refused = || self.refused.iter().flatten();
        let total = refused().map(|some| some.len()).sum::<usize>() + self.shadowed().count();
        let shadows = |key: &RouteKey| self.shadowed.is_some_and(|shadowed| shadowed.contains_key(key));
        let get = |key: &RouteKey| self.refused(key).or_else(|| shadows(key).then_some(Reason::Occupied));
        let all = refused().flat_map(|some| some.iter().map(|(key, reason)| (*key, *reason)));
        list.replace(total as u64, get, all.chain(self.shadowed().map(|key| (key, Reason::Occupied))))
    }
}

impl Worker {
    /// Reports it, before the batch is reported to be in use.
    pub(super) fn report_refused(&self) {
        let refused = (!self.config.accept_refused).then_some([&self.refused, &self.unfit]);
        let shadowed = (!self.config.accept_shadowed).then_some(self.foreign.all_shadowed());
        let known = NotForwarded { refused, shadowed };
        self.progress.refuse(|list| known.show(list));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(prefix: &str) -> RouteKey {
        (0, prefix.parse().unwrap())
    }

    #[test]
    fn a_route_that_is_refused_and_shadowed_is_one_route() {
        let refused = HashMap::from([(key("10.0.0.0/8"), Reason::Kernel)]);
        let unfit = HashMap::from([(key("11.0.0.0/8"), Reason::UnknownPort)]);
        let other = ForeignRoute::default();
        let shadowed = HashMap::from([(key("10.0.0.0/8"), other), (key("12.0.0.0/8"), other)]);
        let mut list = Refusals::default();
        let known = NotForwarded { refused: Some([&refused, &unfit]), shadowed: Some(&shadowed) };
        assert!(known.show(&mut list));
        let found: Vec<_> = list.iter().map(|(key, reason)| (key.1.to_string(), reason)).collect();
        let expected = [
            ("10.0.0.0/8", Reason::Kernel),
            ("11.0.0.0/8", Reason::UnknownPort),
            ("12.0.0.0/8", Reason::Occupied),
        ];
        assert!(found.iter().map(|(prefix, reason)| (prefix.as_str(), *reason)).eq(expected), "{found:?}");
        assert_eq!(list.more(), 0);
        assert!(!known.show(&mut list));
        let accepted = NotForwarded { refused: None, shadowed: None };
        assert!(accepted.show(&mut list) && list.is_empty());
    }
}
