//! A real server with a million routes is asked for all of them: its memory does not grow by them, and no thread of a protocol stalls.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, also in its helpers")]

mod common;

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use common::{Folder, Server, free_addresses};
use fibcast_control::protocol::{Answer, Request, RouteRequest};
use fibcast_control::routes::RouteFilter;
use fibcast_control::status::ThreadState;
use fibcast_control::tables::RouteList;

const ROUTES: u32 = 1_000_000;
/// A debug build on a busy machine takes its time to load them.
const LOADED: Duration = Duration::from_secs(180);

fn page(server: &Server, request: &RouteRequest) -> RouteList {
    match server.ask(Request::Routes(request.clone())) {
        Some(Answer::Routes(list)) => list,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_million_routes_are_paged_through_without_memory_and_without_a_stall() {
    let folder = Folder::new();
    let [listen] = free_addresses();
    let mut text = String::new();
    for number in 0..ROUTES {
        let via = if number % 1000 == 0 { 2 } else { 1 };
        writeln!(text, "{}/24 via 192.0.2.{via}", Ipv4Addr::from(number << 8)).unwrap();
    }
    let path = folder.write("million.routes", text);
    let source = format!("[[source]]\norigin = \"own\"\nkind = \"static\"\npath = {path:?}\n");
    folder.config("rs", Some(listen), &format!("[rib]\nready_timeout_ms = 600000\n{source}"));
    let server = Server::start(&folder, "rs");
    let begin = Instant::now();
    while !server.status().is_some_and(|status| status.ready) {
        assert!(begin.elapsed() < LOADED, "not loaded");
        std::thread::sleep(Duration::from_millis(100));
    }
    let before = server.status().unwrap().resident_bytes;
    let mut request = RouteRequest { limit: usize::MAX, ..RouteRequest::default() };
    let (mut seen, mut pages, mut largest) = (0, 0, 0);
    loop {
        let list = page(&server, &request);
        assert!(list.routes.iter().all(|r| r.origin.as_deref() == Some("own") && r.age_ms.is_some()));
        (seen, pages, largest) = (seen + list.routes.len(), pages + 1, largest.max(list.routes.len()));
        assert_eq!(list.total, u64::from(ROUTES));
        request.after = list.next;
        if request.after.is_none() {
            break;
        }
    }
    assert_eq!(seen, ROUTES as usize);
    assert!(largest <= 4096, "{largest} on a page");
    let filter = RouteFilter { next_hop: "192.0.2.2".parse().ok(), ..RouteFilter::default() };
    let mut request = RouteRequest { limit: 0, filter, ..RouteRequest::default() };
    let mut matched = 0;
    loop {
        let list = page(&server, &request);
        matched += list.matched;
        request.after = list.next;
        if request.after.is_none() {
            break;
        }
    }
    assert_eq!(matched, u64::from(ROUTES / 1000));
    let status = server.status().unwrap();
    let grown = status.resident_bytes.saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes for {pages} pages");
    assert!(status.threads.iter().all(|thread| thread.state == ThreadState::Running), "{:?}", status.threads);
}
