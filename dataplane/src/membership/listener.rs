//! Membership of one port in groups of one family, as a state machine without packets: the host side of IGMPv3 (RFC 3376 §5) and MLDv2
//! (RFC 3810 §6), with the compatibility modes for older queriers (RFC 3376 §7.2, RFC 3810 §8.2).
//!
//! Each group is in EXCLUDE mode without sources, that is, all sources are welcome. So a query for a group and sources is answered like one
//! for the group. Memberships are not suppressed by reports of others, which RFC 3376 §7.2.2 leaves to the host.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::packet::membership::{Query, Record, Version};

/// RFC 3376 §8.1, RFC 3810 §9.1: how often a change is reported, unless the querier says otherwise.
const ROBUSTNESS: u8 = 2;
/// RFC 3376 §8.11, RFC 3810 §9.11: longest pause between two reports of a change.
const UNSOLICITED: Duration = Duration::from_secs(1);
/// RFC 2236 §8.10, RFC 2710 §7.10: the same in the older versions.
const OLD_UNSOLICITED: Duration = Duration::from_secs(10);

/// What is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// A report of the newest version.
    Records(Vec<(Record, IpAddr)>),
    /// A report of an older version about one group.
    Old(Version, IpAddr),
    /// A leave or "done" of an older version.
    Leave(IpAddr),
}

/// A group that the port is a member of.
#[derive(Debug, Default)]
struct Group {
    /// Reports of the new membership that are still to be sent.
    reports: u8,
    /// When a query for this group is answered.
    answer_at: Option<Instant>,
}

/// See the module's documentation. Calls need a monotonic time. `set_groups`, `restart` and `handle_query` change the state, `poll` says
/// what is to be sent, and `next` when to call it again.
#[derive(Debug)]
pub struct Listener {
    groups: BTreeMap<IpAddr, Group>,
    /// Groups that the port left, with the number of reports that are still to be sent.
    left: BTreeMap<IpAddr, u8>,
    /// When the changes are reported next.
    change_at: Option<Instant>,
    /// When a general query is answered.
    general_at: Option<Instant>,
    /// Until when queriers of older versions are taken to be present.
    older_until: Option<Instant>,
    oldest_until: Option<Instant>,
    robustness: u8,
    random: Random,
}

impl Listener {
    /// A member of no group. `seed` decides the delays of answers, and should differ between routers.
    pub fn new(seed: u64) -> Listener {
        Listener {
            groups: BTreeMap::new(),
            left: BTreeMap::new(),
            change_at: None,
            general_at: None,
            older_until: None,
            oldest_until: None,
            robustness: ROBUSTNESS,
            random: Random(seed),
        }
    }

    /// The version of reports: that of the oldest querier present.
    pub fn version(&self) -> Version {
        match (self.oldest_until, self.older_until) {
            (Some(_), _) => Version::Oldest,
            (None, Some(_)) => Version::Older,
            (None, None) => Version::Newest,
        }
    }

    /// The port is to be a member of exactly these groups. Changes are reported at once and again within a second.
    pub fn set_groups(&mut self, groups: impl IntoIterator<Item = IpAddr>, now: Instant) {
        let mut before = std::mem::take(&mut self.groups);
        let mut changed = false;
        for address in groups {
            let group = before.remove(&address).unwrap_or_else(|| {
                changed = true;
                Group { reports: self.robustness, answer_at: None }
            });
            self.left.remove(&address);
            self.groups.insert(address, group);
        }
        for address in before.into_keys() {
            changed = true;
            self.left.insert(address, self.robustness);
        }
        if changed {
            self.change_at = Some(now);
        }
    }

    /// The link is new, and whoever is on it knows of no membership: all are reported as if just joined.
    pub fn restart(&mut self, now: Instant) {
        self.left.clear();
        (self.general_at, self.older_until, self.oldest_until) = (None, None, None);
        self.robustness = ROBUSTNESS;
        for group in self.groups.values_mut() {
            *group = Group { reports: ROBUSTNESS, answer_at: None };
        }
        self.change_at = (!self.groups.is_empty()).then_some(now);
    }

    /// A querier asks. The answer is due within its maximum response time.
    pub fn handle_query(&mut self, query: &Query, now: Instant) {
        let before = self.version();
        // RFC 3376 §8.12, RFC 3810 §9.12: the older version is in use for this long after the last query of it.
        let robustness = u32::from(self.robustness);
        let until = now + query.interval.saturating_mul(robustness) + query.response;
        match query.version {
            Version::Newest if query.robustness != 0 => self.robustness = query.robustness,
            Version::Newest => {}
            Version::Older => self.older_until = Some(until),
            Version::Oldest => self.oldest_until = Some(until),
        }
        if self.version() != before {
            self.cancel();
        }
        let delay = self.random.below(query.response);
        let at = now + delay;
        // RFC 3376 §5.2, rule 1: a pending answer to a general query that is sooner covers all groups.
        if self.general_at.is_some_and(|pending| pending <= at) {
            return;
        }
        match query.group {
            None if self.version() == Version::Newest => self.general_at = Some(at),
            // Older versions have a report and a delay for each group (RFC 2236 §3, RFC 2710 §4).
            None => {
                for group in self.groups.values_mut() {
                    let at = now + self.random.below(query.response);
                    group.answer_at = Some(group.answer_at.map_or(at, |pending| pending.min(at)));
                }
            }
            Some(address) => {
                if let Some(group) = self.groups.get_mut(&address) {
                    group.answer_at = Some(group.answer_at.map_or(at, |pending| pending.min(at)));
                }
            }
        }
    }

    /// RFC 3376 §7.2.1, RFC 3810 §8.2.1: a change of the version cancels all pending answers and reports.
    fn cancel(&mut self) {
        (self.change_at, self.general_at) = (None, None);
        self.left.clear();
        self.groups.values_mut().for_each(|group| *group = Group::default());
    }

    /// When [`poll`](Self::poll) has something to do; `None`: not before another call.
    pub fn next(&self) -> Option<Instant> {
        let answers = self.groups.values().filter_map(|group| group.answer_at);
        let timers = [self.change_at, self.general_at, self.older_until, self.oldest_until];
        answers.chain(timers.into_iter().flatten()).min()
    }

    /// What is to be sent now.
    pub fn poll(&mut self, now: Instant) -> Vec<Report> {
        let before = self.version();
        self.older_until = self.older_until.filter(|until| *until > now);
        self.oldest_until = self.oldest_until.filter(|until| *until > now);
        if self.version() != before {
            self.cancel();
        }
        let mut records = Vec::new();
        if self.change_at.is_some_and(|at| at <= now) {
            self.changes(&mut records, now);
        }
        let general = self.general_at.is_some_and(|at| at <= now);
        if general {
            self.general_at = None;
        }
        for (address, group) in &mut self.groups {
            if general || group.answer_at.is_some_and(|at| at <= now) {
                group.answer_at = None;
                records.push((Record::IsExclude, *address));
            }
        }
        match self.version() {
            Version::Newest if records.is_empty() => Vec::new(),
            Version::Newest => vec![Report::Records(records)],
            version => old(version, records),
        }
    }

    /// Reports joined and left groups once, and plans the next time.
    fn changes(&mut self, records: &mut Vec<(Record, IpAddr)>, now: Instant) {
        for (address, group) in self.groups.iter_mut().filter(|(_, group)| group.reports != 0) {
            group.reports -= 1;
            records.push((Record::ToExclude, *address));
        }
        let old = self.version() != Version::Newest;
        self.left.retain(|address, reports| {
            records.push((Record::ToInclude, *address));
            *reports = reports.saturating_sub(1);
            // RFC 2236 §3, RFC 2710 §4: a leave is sent once.
            *reports != 0 && !old
        });
        let more = !self.left.is_empty() || self.groups.values().any(|group| group.reports != 0);
        let longest = if old { OLD_UNSOLICITED } else { UNSOLICITED };
        self.change_at = more.then(|| now + self.random.below(longest));
    }
}

/// Records as messages of an older version. IGMPv1 has no leave.
fn old(version: Version, records: Vec<(Record, IpAddr)>) -> Vec<Report> {
    let report = |(record, address)| match record {
        Record::ToInclude if version == Version::Oldest => None,
        Record::ToInclude => Some(Report::Leave(address)),
        Record::IsExclude | Record::ToExclude => Some(Report::Old(version, address)),
    };
    records.into_iter().filter_map(report).collect()
}

/// SplitMix64 (Steele et al., OOPSLA 2014): delays need to differ between hosts, not to be unpredictable.
#[derive(Debug)]
struct Random(u64);

impl Random {
    /// A duration from 0 to below `limit`, in milliseconds.
    fn below(&mut self, limit: Duration) -> Duration {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        let milliseconds = limit.as_millis().min(u128::from(u64::MAX)) as u64;
        Duration::from_millis(bits.checked_rem(milliseconds).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn group(last: u8) -> IpAddr {
        IpAddr::from([239, 0, 0, last])
    }

    fn query(version: Version, group: Option<IpAddr>, response: Duration) -> Query {
        Query { version, group, response, robustness: 0, interval: 125 * SECOND }
    }

    /// A member of groups 1 and 2 that has reported them.
    fn listener(start: Instant) -> Listener {
        let mut listener = Listener::new(7);
        listener.set_groups([group(1), group(2)], start);
        run(&mut listener, start, start + 2 * SECOND);
        listener
    }

    /// All reports up to `end`, with their times.
    fn run(listener: &mut Listener, start: Instant, end: Instant) -> Vec<(Duration, Report)> {
        let mut found = Vec::new();
        while let Some(at) = listener.next().filter(|at| *at <= end) {
            found.extend(listener.poll(at).into_iter().map(|report| (at - start, report)));
        }
        found
    }

    #[test]
    fn a_change_is_reported_at_once_and_again_within_a_second() {
        let (mut listener, start) = (Listener::new(1), Instant::now());
        listener.set_groups([group(1)], start);
        let joined = Report::Records(vec![(Record::ToExclude, group(1))]);
        let found = run(&mut listener, start, start + 100 * SECOND);
        assert_eq!(found.iter().map(|(_, report)| report).collect::<Vec<_>>(), [&joined; 2]);
        assert!(found[0].0.is_zero() && found[1].0 <= SECOND, "{found:?}");
        listener.set_groups([group(1)], start + 100 * SECOND);
        assert_eq!(listener.next(), None, "nothing has changed");
        listener.set_groups([group(2)], start + 100 * SECOND);
        let changed = Report::Records(vec![(Record::ToExclude, group(2)), (Record::ToInclude, group(1))]);
        let found = run(&mut listener, start, start + 200 * SECOND);
        assert_eq!(found.iter().map(|(_, report)| report).collect::<Vec<_>>(), [&changed; 2]);
    }

    #[test]
    fn a_group_that_returns_before_its_leave_was_repeated_is_joined() {
        let start = Instant::now();
        let mut listener = listener(start);
        let now = start + 10 * SECOND;
        listener.set_groups([group(1)], now);
        assert_eq!(listener.poll(now), [Report::Records(vec![(Record::ToInclude, group(2))])]);
        listener.set_groups([group(1), group(2)], now);
        for (_, report) in run(&mut listener, start, now + 10 * SECOND) {
            assert_eq!(report, Report::Records(vec![(Record::ToExclude, group(2))]));
        }
    }

    #[test]
    fn a_general_query_is_answered_once_within_its_response_time_and_at_different_times() {
        let start = Instant::now();
        let mut listener = listener(start);
        let mut delays = Vec::new();
        for round in 1..20 {
            let now = start + round * 100 * SECOND;
            listener.handle_query(&query(Version::Newest, None, 10 * SECOND), now);
            listener.handle_query(&query(Version::Newest, Some(group(1)), 100 * SECOND), now);
            let found = run(&mut listener, now, now + 10 * SECOND);
            let all = vec![(Record::IsExclude, group(1)), (Record::IsExclude, group(2))];
            assert!(found.iter().any(|(_, report)| *report == Report::Records(all.clone())), "{found:?}");
            delays.push(found[0].0);
            run(&mut listener, now, now + 99 * SECOND);
        }
        delays.sort();
        delays.dedup();
        assert!(delays.len() > 10, "{delays:?}");
    }

    #[test]
    fn a_query_for_a_group_is_answered_for_that_group_if_it_is_ours() {
        let start = Instant::now();
        let mut listener = listener(start);
        let now = start + 10 * SECOND;
        listener.handle_query(&query(Version::Newest, Some(group(2)), SECOND), now);
        listener.handle_query(&query(Version::Newest, Some(group(9)), SECOND), now);
        let found = run(&mut listener, now, now + SECOND);
        let expected = Report::Records(vec![(Record::IsExclude, group(2))]);
        assert_eq!(found.into_iter().map(|(_, report)| report).collect::<Vec<_>>(), [expected]);
    }

    #[test]
    fn an_older_querier_gets_its_version_until_it_is_gone() {
        let start = Instant::now();
        let mut listener = listener(start);
        let now = start + 10 * SECOND;
        listener.handle_query(&query(Version::Older, None, 10 * SECOND), now);
        assert_eq!(listener.version(), Version::Older);
        let found = run(&mut listener, now, now + 10 * SECOND);
        let mut reports: Vec<_> = found.into_iter().map(|(_, report)| report).collect();
        reports.sort_by_key(|report| format!("{report:?}"));
        let old = |address| Report::Old(Version::Older, address);
        assert_eq!(reports, [old(group(1)), old(group(2))]);
        listener.set_groups([group(1)], now + 20 * SECOND);
        let found = run(&mut listener, now, now + 100 * SECOND);
        assert_eq!(found.len(), 1, "once: {found:?}");
        assert_eq!(found[0].1, Report::Leave(group(2)));
        // 2 × 125 s and the response time.
        listener.poll(now + 259 * SECOND);
        assert_eq!(listener.version(), Version::Older);
        listener.poll(now + 260 * SECOND);
        assert_eq!(listener.version(), Version::Newest);
    }

    #[test]
    fn the_oldest_querier_present_decides() {
        let (mut listener, start) = (Listener::new(1), Instant::now());
        for version in [Version::Newest, Version::Oldest, Version::Older, Version::Newest] {
            listener.handle_query(&query(version, None, SECOND), start);
        }
        assert_eq!(listener.version(), Version::Oldest);
        listener.set_groups([group(1)], start);
        assert_eq!(listener.poll(start), [Report::Old(Version::Oldest, group(1))]);
        listener.set_groups([], start);
        assert_eq!(listener.poll(start), [], "IGMPv1 has no leave");
    }

    #[test]
    fn a_new_link_is_told_everything() {
        let start = Instant::now();
        let mut listener = listener(start);
        listener.handle_query(&query(Version::Older, None, SECOND), start + 3 * SECOND);
        let now = start + 10 * SECOND;
        listener.restart(now);
        let all = vec![(Record::ToExclude, group(1)), (Record::ToExclude, group(2))];
        assert_eq!(listener.poll(now), [Report::Records(all)]);
    }

    #[test]
    fn the_querier_says_how_often_a_change_is_reported() {
        let (mut listener, start) = (Listener::new(1), Instant::now());
        listener.handle_query(&Query { robustness: 4, ..query(Version::Newest, None, SECOND) }, start);
        listener.poll(start + SECOND);
        listener.set_groups([group(1)], start + 2 * SECOND);
        assert_eq!(run(&mut listener, start, start + 100 * SECOND).len(), 4);
    }
}
