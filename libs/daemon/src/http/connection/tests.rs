use super::*;

const DATE: SystemTime = SystemTime::UNIX_EPOCH;

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn output(connection: &mut Connection, now: Duration) -> String {
    let text: Vec<u8> = connection.output().concat();
    connection.sent(now, text.len());
    String::from_utf8(text).unwrap()
}

/// The paths of the requests in `bytes`, each answered, and all that was output.
fn exchange(bytes: &[u8]) -> (Vec<String>, String) {
    let mut connection = Connection::new(at(0));
    let (mut paths, mut all, mut left) = (Vec::new(), String::new(), bytes);
    loop {
        let (now, rest) = left.split_at(left.len().min(connection.room()));
        connection.handle_input(at(0), now);
        left = rest;
        let request = connection.poll_request(at(0), DATE);
        if request.is_some() {
            connection.answer(at(0), &Answer::text(200, "yes"), DATE);
        }
        let text = output(&mut connection, at(0));
        if text.is_empty() && request.is_none() && now.is_empty() {
            return (paths, all);
        }
        paths.extend(request);
        all += &text;
    }
}

/// The code of the answer to a wrong request, after which the connection ends.
fn refusal(bytes: &[u8]) -> u16 {
    let (paths, text) = exchange(bytes);
    assert_eq!(paths, Vec::<String>::new(), "{text}");
    assert!(text.contains("Connection: close\r\n"), "{text}");
    text.split(' ').nth(1).unwrap_or_else(|| panic!("no answer")).parse().unwrap()
}

#[test]
fn an_answer_has_what_rfc_9110_asks_for() {
    let (paths, text) = exchange(b"GET /healthz?x=1 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(paths, ["/healthz"]);
    assert_eq!(
        text,
        "HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: 4\r\nCache-Control: no-store\r\nConnection: keep-alive\r\n\r\nyes\n"
    );
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let one = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
    let (paths, text) = exchange(format!("{one}{}{one}", one.replace("/a", "/b")).as_bytes());
    assert_eq!(paths, ["/a", "/b", "/a"]);
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 3);
    // More of them than fit into the buffer at once.
    assert_eq!(exchange(one.repeat(1000).as_bytes()).0.len(), 1000);
}

#[test]
fn a_request_byte_by_byte_is_the_same_request() {
    let mut connection = Connection::new(at(0));
    for byte in b"GET /metrics HTTP/1.1\r\nHost: [::1]:9100\r\nUser-Agent: x\r\n\r" {
        connection.handle_input(at(0), &[*byte]);
        assert_eq!(connection.poll_request(at(0), DATE), None);
    }
    connection.handle_input(at(0), b"\n");
    assert_eq!(connection.poll_request(at(0), DATE).as_deref(), Some("/metrics"));
    assert!(connection.is_working() && connection.room() == 0);
}

#[test]
fn http_1_0_and_a_wish_to_close_end_the_connection() {
    for request in [
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: TE, Close\r\n\r\n",
        "GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n",
    ] {
        let (paths, text) = exchange(request.repeat(2).as_bytes());
        assert_eq!(paths, ["/"], "{request}");
        assert!(text.contains("Connection: close\r\n"), "{text}");
    }
    let kept = "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n";
    assert_eq!(exchange(kept.repeat(2).as_bytes()).0, ["/", "/"]);
}

#[test]
fn targets_in_absolute_form_are_paths() {
    for (target, expected) in
        [("http://a:9/metrics?x", "/metrics"), ("http://a", "/"), ("/a?b://c", "/a"), ("*", "*")]
    {
        assert_eq!(exchange(format!("GET {target} HTTP/1.0\r\n\r\n").as_bytes()).0, [expected]);
    }
}

#[test]
fn wrong_requests_are_told_why() {
    assert_eq!(refusal(b"\x16\x03\x01\x02\x00\x01"), 400);
    assert_eq!(refusal(b"GET / HTTP/1.1\r\nno colon\r\n\r\n"), 400);
    assert_eq!(refusal(b"GET / HTTP/1.1\r\n folded: x\r\n\r\n"), 400);
    assert_eq!(refusal(b"GET / HTTP/1.1\r\n\r\n"), 400);
    assert_eq!(refusal(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), 400);
    assert_eq!(refusal(b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
    assert_eq!(refusal(b"POST / HTTP/1.1\r\nHost: a\r\n\r\n"), 405);
    assert_eq!(refusal(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"), 413);
    assert_eq!(refusal(b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 413);
    assert_eq!(refusal(b"GET / HTTP/2.0\r\n\r\n"), 505);
    let fields = "a: b\r\n".repeat(MAX_FIELDS + 1);
    assert_eq!(refusal(format!("GET / HTTP/1.0\r\n{fields}\r\n").as_bytes()), 431);
}

#[test]
fn a_head_without_an_end_is_refused_at_its_bound_and_not_kept() {
    let mut connection = Connection::new(at(0));
    connection.handle_input(at(0), &[b"GET /".as_slice(), &[b'a'; 2 * MAX_HEAD]].concat());
    assert_eq!(connection.poll_request(at(0), DATE), None);
    assert!(output(&mut connection, at(0)).starts_with("HTTP/1.1 431 "));
    assert!(connection.is_draining() && connection.input.capacity() == 0);
    // What follows is thrown away until the client closes its side, for a second at most.
    connection.handle_input(at(500), &[b'a'; MAX_HEAD]);
    assert!(connection.input.is_empty());
    connection.handle_timeout(at(999), DATE);
    assert!(!connection.is_over());
    connection.handle_timeout(at(1000), DATE);
    assert!(connection.is_over());
}

#[test]
fn each_phase_has_its_time() {
    // Nothing at all.
    let mut connection = Connection::new(at(0));
    assert_eq!(connection.due(), Some(at(5_000)));
    connection.handle_timeout(at(5_000), DATE);
    assert!(connection.is_over() && connection.due().is_none());

    // Bytes that trickle do not extend it.
    let mut connection = Connection::new(at(0));
    connection.handle_input(at(4_900), b"GET /");
    connection.handle_timeout(at(5_000), DATE);
    assert!(output(&mut connection, at(5_000)).starts_with("HTTP/1.1 408 "));

    // A kept connection may be idle, and its next request has the usual time.
    let mut connection = Connection::new(at(0));
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    connection.handle_input(at(0), request);
    assert_eq!(connection.poll_request(at(0), DATE).as_deref(), Some("/"));
    assert_eq!(connection.due(), None);
    connection.answer(at(100), &Answer::text(200, "yes"), DATE);
    assert_eq!(connection.due(), Some(at(10_100)));
    output(&mut connection, at(100));
    assert_eq!(connection.due(), Some(at(75_100)));
    connection.handle_input(at(60_000), b"G");
    assert_eq!(connection.due(), Some(at(65_000)));

    // A client that does not read.
    let mut connection = Connection::new(at(0));
    connection.handle_input(at(0), request);
    connection.poll_request(at(0), DATE);
    connection.answer(at(0), &Answer::text(200, "yes"), DATE);
    connection.sent(at(9_000), 1);
    connection.handle_timeout(at(10_000), DATE);
    assert!(connection.is_over() && connection.body().is_none());
    assert!(connection.output().concat().is_empty());
}

#[test]
fn a_client_that_closes_its_side_is_answered_first() {
    let mut connection = Connection::new(at(0));
    connection.handle_input(at(0), b"GET / HTTP/1.0\r\n\r\n");
    connection.handle_end();
    assert_eq!(connection.poll_request(at(0), DATE).as_deref(), Some("/"));
    connection.answer(at(0), &Answer::text(200, "yes"), DATE);
    assert!(output(&mut connection, at(0)).ends_with("yes\n"));
    assert!(connection.is_over());

    let mut connection = Connection::new(at(0));
    connection.handle_input(at(0), b"GET / HT");
    connection.handle_end();
    assert_eq!(connection.poll_request(at(0), DATE), None);
    assert!(connection.is_over());
}
