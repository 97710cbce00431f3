//! What clients of the HTTP port say.

use std::time::{Duration, SystemTime};

use fibcast_daemon::http::{Answer, Connection, MAX_HEAD};

use crate::Input;

/// The paths of all requests and all that was sent, when the bytes arrive in portions.
fn exchange(mut bytes: &[u8], portion: usize) -> (Vec<String>, Vec<u8>) {
    let (now, date) = (Duration::ZERO, SystemTime::UNIX_EPOCH);
    let mut connection = Connection::new(now);
    let (mut paths, mut sent) = (Vec::new(), Vec::new());
    loop {
        let room = connection.room();
        assert!(room <= MAX_HEAD);
        let (piece, rest) = bytes.split_at(bytes.len().min(room).min(portion));
        connection.handle_input(now, piece);
        bytes = rest;
        let request = connection.poll_request(now, date);
        let any = request.is_some();
        if let Some(path) = request {
            assert!(connection.is_working() && !path.contains('?'));
            connection.answer(now, &Answer::text(200, &path), date);
            paths.push(path);
        }
        let output = connection.output().concat();
        connection.sent(now, output.len());
        sent.extend(&output);
        if piece.is_empty() && !any && output.is_empty() {
            return (paths, sent);
        }
    }
}

/// A client: how its bytes are cut changes no answer, and whatever it does, its connection ends in time.
pub fn http(data: &[u8]) {
    let mut input = Input::new(data);
    let portion = usize::from(input.byte().unwrap_or(0)) + 1;
    let bytes = data.get(1..).unwrap_or_default();
    assert_eq!(exchange(bytes, portion), exchange(bytes, usize::MAX));

    // The same bytes as steps: pieces, time, partial writes.
    let date = SystemTime::UNIX_EPOCH;
    let mut now = Duration::ZERO;
    let mut connection = Connection::new(now);
    while let Some(step) = input.byte() {
        match step % 8 {
            0 => now += Duration::from_millis(u64::from(input.number())),
            1 => {
                let n = usize::from(input.byte().unwrap_or(0));
                let waiting = connection.output().concat().len();
                connection.sent(now, n.min(waiting));
            }
            2 if step > 250 => connection.handle_end(),
            _ => connection.handle_input(now, input.chunk()),
        }
        connection.handle_timeout(now, date);
        if connection.poll_request(now, date).is_some() {
            connection.answer(now, &Answer::text(503, "why"), date);
        }
        assert!(!connection.is_working());
        assert!(connection.is_over() || connection.due().is_some_and(|due| due > now));
    }
    // Nobody reads, and nothing comes any more.
    for _ in 0..4 {
        now = connection.due().unwrap_or(now);
        connection.handle_timeout(now, date);
        if connection.poll_request(now, date).is_some() {
            connection.answer(now, &Answer::text(503, "why"), date);
        }
    }
    assert!(connection.is_over() && connection.output().concat().is_empty());
}
