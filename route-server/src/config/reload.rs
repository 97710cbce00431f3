//! What a new version of the file changes for the sources of a server at work, and what it cannot change.

use fibcast_daemon::config::{Loaded, Step};
use fibcast_daemon::reload;

use super::{Checked, Config};
use crate::source::mirror::Policy;
use crate::source::{Kind, fpm, netlink};

/// What becomes of a source of the new version.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceChange {
    /// Its place in the file before; none: it is new.
    pub before: Option<usize>,
    /// Its distance, filter or limit is another: its routes are announced again. Of one that reads files, also if these are others.
    pub again: bool,
    /// It takes routes of its routing daemon by another policy.
    pub policy: Option<Policy>,
}

/// What becomes of all sources.
#[derive(Debug, Clone, PartialEq)]
pub struct Changes {
    /// Those of the new version, in its order.
    pub sources: Vec<SourceChange>,
    /// The origins of those that it does not have any more.
    pub gone: Vec<String>,
}

/// Compares two versions of a file.
///
/// # Errors
/// The keys that need a restart, with file and line; then nothing of the file may be used.
pub fn changes(
    new: (&Loaded<Config>, &Checked),
    before: (&Loaded<Config>, &Checked),
) -> Result<Changes, String> {
    // All fields: a section that is added later must not be left out here.
    let Config { node, log, tls, limits, sync, rib, acknowledge, source: _, peer } = &before.0.value;
    let other = &new.0.value;
    let fixed = [
        ("node", *node != other.node),
        ("tls", tls.needs_restart(&other.tls)),
        ("limits", *limits != other.limits),
        ("sync", *sync != other.sync),
        ("rib", *rib != other.rib),
        ("acknowledge", *acknowledge != other.acknowledge),
        ("peer", *peer != other.peer),
    ];
    reload::refuse(new.0, before.0, &[&fixed[..], &log.fixed(&other.log)].concat())?;
    let gone = before.1.sources.iter().map(|old| &old.origin);
    let gone = gone.filter(|origin| place(new.1, origin).is_none()).cloned().collect();
    let sources = (0..new.1.sources.len()).map(|at| change(at, new, before.1)).collect::<Result<_, _>>()?;
    Ok(Changes { sources, gone })
}

/// Place of the source with this origin.
fn place(checked: &Checked, origin: &str) -> Option<usize> {
    checked.sources.iter().position(|source| source.origin == origin)
}

fn change(at: usize, new: (&Loaded<Config>, &Checked), before: &Checked) -> Result<SourceChange, String> {
    let (loaded, checked) = new;
    let fresh = SourceChange { before: None, again: true, policy: None };
    let Some(source) = checked.sources.get(at) else { return Ok(fresh) };
    let Some((was, old)) =
        place(before, &source.origin).and_then(|was| Some((was, before.sources.get(was)?)))
    else {
        return Ok(fresh);
    };
    let refused = |key: &'static str| {
        let key = [Step::Key("source"), Step::At(at), Step::Key(key)];
        Err(loaded.error(&key, "needs a restart").to_string())
    };
    let mut again = old.distance != source.distance || before.filter(was) != checked.filter(at);
    let mut policy = None;
    match (&old.kind, &source.kind) {
        (Kind::Static(_), Kind::Static(_)) | (Kind::Mrt(_), Kind::Mrt(_)) => again |= old.kind != source.kind,
        (Kind::Fpm(old), Kind::Fpm(new)) => {
            if let Some(key) = fixed_of_fpm(old, new) {
                return refused(key);
            }
            policy = Some(&new.rules.policy).filter(|policy| **policy != old.rules.policy).cloned();
        }
        (Kind::Netlink(old), Kind::Netlink(new)) => {
            if let Some(key) = fixed_of_netlink(old, new) {
                return refused(key);
            }
            policy = Some(&new.policy).filter(|policy| **policy != old.policy).cloned();
        }
        _ => return refused("kind"),
    }
    Ok(SourceChange { before: Some(was), again, policy })
}

/// The first key of an `fpm` source that needs a restart.
fn fixed_of_fpm(old: &fpm::FpmOptions, new: &fpm::FpmOptions) -> Option<&'static str> {
    let fpm::Rules { policy: _, how, quiet, sentinel, hold } = &old.rules;
    let fixed = [
        ("listen", old.listen != new.listen),
        ("users", old.admission.users != new.admission.users),
        ("allow", old.admission.allow != new.admission.allow),
        ("end_of_table", *how != new.rules.how),
        ("quiet_s", *quiet != new.rules.quiet),
        ("sentinel", *sentinel != new.rules.sentinel),
        ("hold_s", *hold != new.rules.hold),
    ];
    fixed.into_iter().find(|(_, differs)| *differs).map(|(key, _)| key)
}

/// The same of a `netlink` source.
fn fixed_of_netlink(old: &netlink::NetlinkOptions, new: &netlink::NetlinkOptions) -> Option<&'static str> {
    let netlink::NetlinkOptions { origin: _, table, policy: _, quiet } = old;
    let fixed = [("table", *table != new.table), ("quiet_s", *quiet != new.quiet)];
    fixed.into_iter().find(|(_, differs)| *differs).map(|(key, _)| key)
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;
    use fibcast_daemon::config::parse;

    fn read(text: &str) -> (Loaded<Config>, Checked) {
        let text = format!("[node]\nname = \"rs\"\n{text}");
        let loaded = parse::<Config>("x.toml".as_ref(), text).unwrap();
        let checked = check(&loaded).unwrap();
        (loaded, checked)
    }

    fn compare(old: &str, new: &str) -> Result<Vec<SourceChange>, String> {
        let ((old, was), (new, is)) = (read(old), read(new));
        changes((&new, &is), (&old, &was)).map(|changes| changes.sources)
    }

    const BGP: &str = "[[source]]\norigin = \"bgp\"\nkind = \"fpm\"\nlisten = \"127.0.0.1:2620\"\n";
    const OWN: &str = "[[source]]\norigin = \"own\"\nkind = \"static\"\npath = \"Cargo.toml\"\n";
    const KERNEL: &str = "[[source]]\norigin = \"ospf\"\nkind = \"netlink\"\ntable = 100\n";

    fn same(before: usize) -> SourceChange {
        SourceChange { before: Some(before), again: false, policy: None }
    }

    #[test]
    fn what_says_the_same_in_other_words_changes_nothing() {
        let old = format!("{BGP}{OWN}");
        assert_eq!(compare(&old, &old).unwrap(), [same(0), same(1)]);
        let order = format!("{OWN}{BGP}distance = 20\n[rib]\nready_timeout_ms = 60000\n");
        assert_eq!(compare(&old, &order).unwrap(), [same(1), same(0)]);
    }

    #[test]
    fn rules_of_sources_change_at_work() {
        let expected = [SourceChange { again: true, ..same(0) }];
        for line in ["distance = 7", "max_prefixes = 10", "lengths = { ipv4 = [8, 24] }"] {
            for source in [BGP, OWN, KERNEL] {
                assert_eq!(compare(source, &format!("{source}{line}\n")).unwrap(), expected, "{line}");
                assert_eq!(compare(&format!("{source}{line}\n"), source).unwrap(), expected, "{line}");
            }
        }
        for source in [BGP, KERNEL] {
            for line in ["ports = { eth1 = \"p1\" }", "protocol = \"bgp\"", "vrf = 7"] {
                let changed = compare(source, &format!("{source}{line}\n")).unwrap();
                assert!(!changed[0].again && changed[0].policy.is_some(), "{line}");
            }
        }
        assert_eq!(compare(OWN, &format!("{OWN}vrf = 7\n")).unwrap(), expected);
        let added = compare(OWN, &format!("{OWN}{BGP}")).unwrap();
        assert_eq!(added[1], SourceChange { before: None, again: true, policy: None });
    }

    #[test]
    fn sources_that_are_gone_are_named() {
        let ((old, was), (new, is)) = (read(&format!("{OWN}{BGP}{KERNEL}")), read(BGP));
        let changes = changes((&new, &is), (&old, &was)).unwrap();
        assert_eq!(
            (changes.sources, changes.gone),
            (vec![same(1)], vec!["own".to_owned(), "ospf".to_owned()])
        );
    }

    #[test]
    fn what_needs_a_restart_is_named_with_its_line() {
        let cases = [
            (BGP, format!("{BGP}hold_s = 1\n"), "x.toml:7: source[0].hold_s: needs a restart"),
            (BGP, BGP.replace("2620", "2621"), "x.toml:6: source[0].listen: needs a restart"),
            (KERNEL, KERNEL.replace("100", "101"), "x.toml:6: source[0].table: needs a restart"),
            (BGP, KERNEL.replace("ospf", "bgp"), "x.toml:5: source[0].kind: needs a restart"),
            (OWN, format!("[[peer]]\naddress = \"127.0.0.1:9\"\n{OWN}"), "x.toml:3: peer needs a restart"),
            (OWN, format!("[rib]\norigin_hold_ms = 1\n{OWN}"), "x.toml:3: rib needs a restart"),
            (OWN, format!("[sync]\nheartbeat_ms = 100\n{OWN}"), "x.toml:3: sync needs a restart"),
        ];
        for (old, new, expected) in cases {
            assert_eq!(compare(old, &new).unwrap_err(), expected);
        }
    }
}
