//! Routes of operators that survive a restart.

use std::process::Command;

use crate::common::{ROUTE, Router, frame, wait_until};
use fibcast_control::protocol::OwnRoute;
use fibcast_control::{Answer, DataplaneRequest, Request};
use ipnet::IpNet;

fn prefix() -> IpNet {
    "10.0.0.0/8".parse().unwrap()
}

fn done(router: &Router, request: DataplaneRequest) -> Result<String, String> {
    match router.ask(request)? {
        Answer::Done(text) => Ok(text),
        other => panic!("{other:?}"),
    }
}

fn add(router: &Router, special: Option<&str>, save: bool) -> String {
    let via = if special.is_none() { vec!["198.51.100.9".parse().unwrap()] } else { Vec::new() };
    let special = special.map(str::to_owned);
    let route = OwnRoute { prefix: Some(prefix()), via, special, save, ..OwnRoute::default() };
    done(router, DataplaneRequest::RouteAdd(Box::new(route))).unwrap()
}

fn delete(router: &Router, save: bool) -> Result<String, String> {
    done(router, DataplaneRequest::RouteDelete { vrf: 0, prefix: prefix(), save })
}

/// The file of saved routes, in a folder of its own.
fn section(folder: &tempfile::TempDir) -> String {
    format!("[saved_routes]\nfile = {:?}\n", folder.path().join("nh-test.routes.toml"))
}

fn forwards(router: &Router) {
    let before = router.drops().sent;
    wait_until("forwarding", || router.drops().sent > before + 100);
}

fn drops(router: &Router, reason: &str) {
    let of = || {
        router.drops().drops.iter().filter(|drop| drop.reason == reason).map(|drop| drop.packets).sum::<u64>()
    };
    let before = of();
    wait_until(reason, || of() > before + 100);
}

#[test]
fn a_saved_route_is_there_after_a_restart_and_a_forgotten_one_is_not() {
    let state = tempfile::tempdir().unwrap();
    let router = Router::start(&[frame([10, 1, 2, 3], 1, 64)], "0", "", &section(&state));
    drops(&router, "no_route");
    assert!(add(&router, None, false).ends_with("until the next start"));
    forwards(&router);
    let router = router.restart();
    drops(&router, "no_route");
    let said = add(&router, None, true);
    assert!(said.contains("saved in") && said.ends_with("nh-test.routes.toml"), "{said}");
    forwards(&router);
    let router = router.restart();
    forwards(&router);
    // For a while only; the file stays as it is.
    let said = delete(&router, false).unwrap();
    assert!(said.contains("until the next start, when the saved route counts again"), "{said}");
    drops(&router, "no_route");
    let router = router.restart();
    forwards(&router);
    assert!(delete(&router, true).unwrap().ends_with("no route is saved any more"));
    drops(&router, "no_route");
    let router = router.restart();
    drops(&router, "no_route");
    let error = delete(&router, true).unwrap_err();
    assert!(error.contains("no route to 10.0.0.0/8 is saved"), "{error}");
}

#[test]
fn a_saved_route_counts_before_the_configuration_which_comes_back_when_it_is_forgotten() {
    let state = tempfile::tempdir().unwrap();
    let rest = format!("{ROUTE}{}", section(&state));
    let router = Router::start(&[frame([10, 1, 2, 3], 1, 64)], "0", "", &rest);
    forwards(&router);
    let error = delete(&router, true).unwrap_err();
    assert!(error.contains("is in the configuration") && error.contains("reload"), "{error}");
    add(&router, Some("prohibit"), true);
    drops(&router, "prohibited");
    // Neither a reload of the file nor a restart changes that.
    let other = rest.replace("198.51.100.9", "198.51.100.8");
    router.rewrite("0", "", &other);
    router.ask(Request::Reload).unwrap();
    drops(&router, "prohibited");
    router.rewrite("0", "", &rest);
    let router = router.restart();
    drops(&router, "prohibited");
    let Ok(Answer::Config(config)) = router.ask(Request::Config) else { panic!("no configuration") };
    assert_eq!(config.saved_routes[0].special.as_deref(), Some("prohibit"));
    assert!(
        config.toml.contains("# saved in ")
            && config.toml.ends_with("prefix = \"10.0.0.0/8\"\nprohibit = true\n"),
        "{}",
        config.toml
    );
    assert!(delete(&router, true).unwrap().contains("as the configuration says"));
    forwards(&router);
}

#[test]
fn without_a_file_nothing_is_saved_and_a_wrong_file_is_named_with_its_line() {
    let router = Router::start(&[frame([10, 1, 2, 3], 1, 64)], "0", "", "");
    let route = OwnRoute {
        prefix: Some(prefix()),
        special: Some("blackhole".into()),
        save: true,
        ..OwnRoute::default()
    };
    let error = done(&router, DataplaneRequest::RouteAdd(Box::new(route))).unwrap_err();
    assert!(error.contains("expected [saved_routes] file"), "{error}");
    drops(&router, "no_route");

    let state = tempfile::tempdir().unwrap();
    let file = state.path().join("nh-test.routes.toml");
    std::fs::write(&file, "[[static_route]]\nprefix = \"10.0.0.0/8\"\nvia = \"192.0.2.1\"\n").unwrap();
    router.rewrite("0", "", &section(&state));
    let mut program = Command::new(env!("CARGO_BIN_EXE_fibcast-dataplane"));
    program.arg("--config").arg(router.folder().join("nh-test.toml")).arg("--check-config");
    let output = program.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("nh-test.routes.toml:3: static_route[0].via: expected a gateway"), "{text}");
}
