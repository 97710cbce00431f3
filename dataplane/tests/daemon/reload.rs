//! A changed file: static routes and neighbors are taken over without a restart, anything else is refused whole and named.

use std::path::Path;

use crate::common::{ROUTE, Router, frame, wait_until};
use fibcast_control::protocol::OwnRoute;
use fibcast_control::{Answer, DataplaneRequest, Request};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

fn reason(router: &Router, reason: &str) -> u64 {
    let drops = router.drops().drops;
    drops.iter().filter(|drop| drop.reason == reason).map(|drop| drop.packets).sum()
}

#[test]
fn routes_and_neighbors_of_the_file_change_at_work() {
    let router = Router::start(&[frame([10, 1, 2, 3], 1, 64)], "0", "", ROUTE);
    wait_until("forwarding", || router.drops().sent > 100);
    router.rewrite("0", "", "[[static_route]]\nprefix = \"10.0.0.0/8\"\nprohibit = true\n");
    let Answer::Done(text) = router.ask(Request::Reload).unwrap() else { panic!("no words") };
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].contains(".toml:") && lines[0].contains(": static_route[0]"), "{text}");
    let last = "routes: 1 added or changed, 0 removed; neighbors: 0 added or changed, 0 removed";
    assert_eq!(lines.last(), Some(&last));
    wait_until("the new route", || reason(&router, "prohibited") > 100);
    router.rewrite("0", "", "");
    router.ask(Request::Reload).unwrap();
    wait_until("no route", || reason(&router, "no_route") > 100);

    // What cannot change without a restart is named, and nothing else is taken over with it.
    router.rewrite("0", "tx_backlog = 64", ROUTE);
    let error = router.ask(Request::Reload).unwrap_err();
    assert!(error.starts_with("nothing has changed: ") && error.contains(": workers.tx_backlog"), "{error}");
    assert!(error.contains("needs a restart"), "{error}");
    let before = router.drops().sent;
    router.rewrite("0", "", "[[static_route]]\nprefix = \"10.0.0.0/8\"\n");
    let error = router.ask(Request::Reload).unwrap_err();
    assert!(error.contains("static_route[0].via"), "{error}");
    assert_eq!(router.drops().sent, before);
}

/// `[sync]` and `[tls]` of a node that knows this server, with files in the folder.
fn with_tls(folder: &Path, server: &str) -> String {
    let file = |name: &str| folder.join(name).display().to_string();
    format!(
        "{ROUTE}[sync]\nservers = [{{ address = \"127.0.0.1:1\", role = \"primary\" }}]\n\
         [tls]\ncert = {:?}\nkey = {:?}\nca = {:?}\nservers = [{server:?}]\n",
        file("node.pem"),
        file("node.key"),
        file("ca.pem")
    )
}

#[test]
fn allow_lists_change_at_work_and_every_other_section_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let own = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["nh-test".into()]).unwrap().signed_by(&own, &issuer).unwrap();
    for (name, text) in
        [("ca.pem", ca.pem()), ("node.pem", certificate.pem()), ("node.key", own.serialize_pem())]
    {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let with = |server: &str, more: &str| with_tls(folder.path(), server) + more;
    let router = Router::start(&[frame([10, 1, 2, 3], 1, 64)], "0", "", &with("rs-a", ""));
    wait_until("forwarding", || router.drops().sent > 100);
    router.rewrite("0", "", &with("rs-b", ""));
    let answer = router.ask(Request::Reload).unwrap();
    assert!(matches!(&answer, Answer::Done(text) if text.contains("routes: 0 added")), "{answer:?}");
    // The agent's thread takes them over, after the answer.
    let reloaded = || router.log().matches("reloaded allow lists and certificates").count();
    wait_until("the first reload", || reloaded() == 1);
    // Routes still change after that.
    router.rewrite("0", "", &with("rs-b", "[[static_route]]\nprefix = \"11.0.0.0/8\"\nprohibit = true\n"));
    router.ask(Request::Reload).unwrap();
    for (section, keys) in [("scrub", "[scrub]\npass_s = 7\n"), ("fib", "[fib]\nmax_neighbors = 777\n")] {
        router.rewrite("0", "", &with("rs-c", keys));
        let error = router.ask(Request::Reload).unwrap_err();
        assert!(error.contains(&format!(": {section}")) && error.contains("need"), "{error}");
    }
    // The same by a signal: the lists of such a file do not count either.
    wait_until("both reloads", || reloaded() == 2);
    router.rewrite("0", "", &with("rs-d", "[scrub]\npass_s = 7\n"));
    let refused = || router.log().matches("cannot reload, nothing has changed").count();
    let before = refused();
    hangup(&router);
    wait_until("refused", || refused() > before);
    assert_eq!(reloaded(), 2);
    router.rewrite("0", "", &with("rs-d", ""));
    hangup(&router);
    wait_until("reloaded", || reloaded() == 3);
}

fn hangup(router: &Router) {
    let pid = router.pid().to_string();
    assert!(std::process::Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
}

#[test]
fn sighup_reloads_and_ends_nothing_without_servers_too() {
    let router = Router::start(&[frame([10, 1, 2, 3], 1, 64)], "0", "", ROUTE);
    wait_until("forwarding", || router.drops().sent > 100);
    let hangup = || hangup(&router);
    router.rewrite("0", "", "[[static_route]]\nprefix = \"10.0.0.0/8\"\nprohibit = true\n");
    hangup();
    wait_until("the new route", || reason(&router, "prohibited") > 100);
    // A file that is wrong changes nothing.
    router.rewrite("0", "", "[[static_route]]\nprefix = \"10.0.0.0/8\"\n");
    hangup();
    router.rewrite("0", "", ROUTE);
    hangup();
    let before = router.drops().sent;
    wait_until("forwarding again", || router.drops().sent > before + 100);
}

#[test]
fn an_operators_route_and_neighbor_come_and_go() {
    let router = Router::start(&[frame([10, 1, 2, 3], 1, 64)], "0", "", "");
    wait_until("no route", || reason(&router, "no_route") > 100);
    let neighbor = |mac: &str| DataplaneRequest::NeighborAdd {
        port: "p1".into(),
        address: "198.51.100.10".parse().unwrap(),
        mac: mac.into(),
    };
    router.ask(neighbor("02:00:00:00:00:10")).unwrap();
    assert!(router.ask(neighbor("02:00")).unwrap_err().contains("expected a MAC address"));
    let prefix: ipnet::IpNet = "10.0.0.0/8".parse().unwrap();
    let route = |via: &str| {
        let via = vec![via.parse().unwrap()];
        DataplaneRequest::RouteAdd(Box::new(OwnRoute { prefix: Some(prefix), via, ..OwnRoute::default() }))
    };
    router.ask(route("198.51.100.10")).unwrap();
    wait_until("forwarding", || router.drops().sent > 100);
    assert!(router.ask(route("127.0.0.1")).unwrap_err().contains("via: expected a gateway"));
    router.ask(DataplaneRequest::RouteDelete { vrf: 0, prefix, save: false }).unwrap();
    let error = router.ask(DataplaneRequest::RouteDelete { vrf: 0, prefix, save: false }).unwrap_err();
    assert!(error.contains("no route of its own to 10.0.0.0/8"), "{error}");
    let gone =
        DataplaneRequest::NeighborDelete { port: "p1".into(), address: "198.51.100.10".parse().unwrap() };
    router.ask(gone.clone()).unwrap();
    assert!(router.ask(gone).unwrap_err().contains("has no static neighbor"));
    let error = router.ask(Request::Resync).unwrap_err();
    assert!(error.contains("[sync] is missing"), "{error}");
}
