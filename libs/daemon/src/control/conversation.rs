//! What is said on one connection of an operator: lines of JSON, each phase bounded in bytes and time.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fibcast_control::protocol::{Answer, DataplaneRequest, MAX_LINE, MAX_REQUEST, Reply, Request};

use super::Handler;
use super::operators::Place;

/// Time for an operator to send a whole request, from the answer before; and to take a whole answer.
const PHASE: Duration = Duration::from_secs(10);
/// Bytes of one read.
const PORTION: usize = 4096;

/// Answers requests until the operator leaves, is late, or loses its place. The handler is given back before the place is.
pub(super) fn hold(stream: &UnixStream, handler: Arc<dyn Handler>, place: &Place) -> io::Result<()> {
    let mut input = Vec::new();
    let mut captures = Captures { handler, ids: Vec::new() };
    while let Some(line) = read_line(stream, &mut input)? {
        if !place.asks() {
            return Ok(());
        }
        let answer = answer(&line, &mut captures)?;
        // It waits for us no more: one who takes no answer keeps nobody out.
        place.idles();
        write(stream, &answer)?;
        if !line.ends_with(b"\n") {
            return Ok(());
        }
    }
    Ok(())
}

/// Captures that end with this connection, however it ends.
struct Captures {
    handler: Arc<dyn Handler>,
    ids: Vec<u64>,
}

impl Captures {
    /// Passes a request on, and remembers the capture that it begins or ends.
    fn handle(&mut self, request: Request) -> Result<Answer, String> {
        use DataplaneRequest::{CaptureStart, CaptureStop};
        let begins = matches!(&request, Request::Dataplane(CaptureStart { until_closed: true, .. }));
        let ends = match &request {
            Request::Dataplane(CaptureStop { id }) => Some(*id),
            _ => None,
        };
        let answer = self.handler.handle(request)?;
        self.ids.retain(|id| Some(*id) != ends);
        if let (true, Answer::Captured(captured)) = (begins, &answer) {
            self.ids.push(captured.id);
        }
        Ok(answer)
    }
}

impl Drop for Captures {
    fn drop(&mut self) {
        for id in self.ids.drain(..) {
            let stop = Request::Dataplane(DataplaneRequest::CaptureStop { id });
            // One that is over already is refused.
            let _ = catch_unwind(AssertUnwindSafe(|| self.handler.handle(stop)));
        }
    }
}

fn answer(line: &[u8], captures: &mut Captures) -> io::Result<Vec<u8>> {
    let reply = match serde_json::from_slice::<Request>(line) {
        _ if line.len() > MAX_REQUEST => Reply::Error(format!("a request has at most {MAX_REQUEST} bytes")),
        Ok(request) => match catch_unwind(AssertUnwindSafe(|| captures.handle(request))) {
            Ok(answer) => answer.map_or_else(Reply::Error, Reply::Ok),
            Err(_) => Reply::Error("the request made a thread panic, see the log".into()),
        },
        Err(error) => Reply::Error(format!("not a request that this version understands: {error}")),
    };
    let mut answer = serde_json::to_vec(&reply)?;
    if answer.len() >= MAX_LINE {
        let text =
            format!("the answer has more than {MAX_LINE} bytes: ask for less, for example with a limit");
        answer = serde_json::to_vec(&Reply::Error(text))?;
    }
    answer.push(b'\n');
    Ok(answer)
}

/// The next line, with its end unless input ends before or it is too long. `input` keeps what follows. None at the end of input.
fn read_line(mut stream: &UnixStream, input: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    let until = Instant::now() + PHASE;
    let mut searched = 0;
    loop {
        let found = input.iter().skip(searched).position(|byte| *byte == b'\n').map(|at| searched + at + 1);
        if found.is_some() || input.len() > MAX_REQUEST {
            let rest = input.split_off(found.unwrap_or(input.len()));
            return Ok(Some(std::mem::replace(input, rest)));
        }
        searched = input.len();
        stream.set_read_timeout(Some(left(until)?))?;
        let mut portion = [0; PORTION];
        match stream.read(&mut portion) {
            Ok(0) if input.is_empty() => return Ok(None),
            Ok(0) => return Ok(Some(std::mem::take(input))),
            Ok(n) => input.extend_from_slice(portion.get(..n).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn write(mut stream: &UnixStream, mut bytes: &[u8]) -> io::Result<()> {
    let until = Instant::now() + PHASE;
    while !bytes.is_empty() {
        stream.set_write_timeout(Some(left(until)?))?;
        match stream.write(bytes) {
            Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}
