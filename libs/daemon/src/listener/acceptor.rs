//! Accepting that survives the end of file descriptors.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

use super::Counters;

/// Pause of accepting while the system has nothing left for another connection, and the least time of one that took the last of the reserve.
const PAUSE: Duration = Duration::from_millis(100);
/// Most connections that a listener accepts before it reads from them, and the number of file descriptors in reserve: so what a connection has
/// sent is read before others take its place.
pub const ACCEPT_TURN: usize = 32;
/// Half-open connections that give way together when the last of the reserve is taken: others come as fast.
pub const ROOM: usize = 16;

/// What [`Acceptor::accept`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Accepted<T> {
    /// A connection.
    Connection(T),
    /// Nobody waits.
    Empty,
    /// The system is out of file descriptors or memory: to be tried again at this time. Closing a connection helps, but not while
    /// [`Acceptor::paused_until`] already told so before the call: that one may be served from the reserve.
    Later(Duration),
}

/// Calls `accept`, and handles its errors. One for all sockets of a listener; `now` counts from any start.
///
/// Some file descriptors are kept in reserve. When the process has no others left, connections take those, so that clients, an operator and
/// monitoring are still served: each new one takes the place of the one that has been silent for longest.
#[derive(Debug)]
pub struct Acceptor {
    counters: Arc<Counters>,
    reserve: Vec<File>,
    /// Opens one for the reserve.
    open: fn() -> io::Result<File>,
    /// No attempt before this time.
    from: Duration,
    /// Since when the system refuses.
    refused_since: Option<Duration>,
}

impl Acceptor {
    /// Takes the reserve.
    pub fn new(counters: Arc<Counters>) -> Self {
        let open = || File::open("/dev/null");
        let reserve = std::iter::repeat_with(open).take(ACCEPT_TURN).map_while(Result::ok).collect();
        Self { counters, reserve, open, from: Duration::ZERO, refused_since: None }
    }

    /// The end of a pause after `now`.
    pub fn paused_until(&self, now: Duration) -> Option<Duration> {
        (self.from > now).then_some(self.from)
    }

    /// A connection was closed to make room: there is no need to wait.
    pub fn relieved(&mut self) {
        self.from = Duration::ZERO;
    }

    /// Accepts a connection by `accept`, which must not block or may be called again after each connection.
    pub fn accept<T>(&mut self, now: Duration, mut accept: impl FnMut() -> io::Result<T>) -> Accepted<T> {
        if let Some(until) = self.paused_until(now) {
            return Accepted::Later(until);
        }
        if let Err(error) = self.fill_reserve()
            && self.reserve.is_empty()
        {
            return self.pause(now, &error);
        }
        loop {
            let error = match accept() {
                Ok(connection) => {
                    self.recovered(now);
                    return Accepted::Connection(connection);
                }
                Err(error) => error,
            };
            match (error.kind(), Errno::from_io_error(&error)) {
                (ErrorKind::WouldBlock, _) => return Accepted::Empty,
                (_, Some(Errno::MFILE | Errno::NFILE)) => {
                    self.refused(now, &error);
                    self.reserve.pop();
                    return match accept() {
                        Ok(connection) => {
                            if self.reserve.is_empty() {
                                self.from = now + PAUSE;
                            }
                            Accepted::Connection(connection)
                        }
                        Err(error) => self.pause(now, &error),
                    };
                }
                // The next connection may be fine: Linux reports errors of the network here (accept(2), "Error handling").
                (_, Some(errno)) if OF_THE_CONNECTION.contains(&errno) => {}
                _ => return self.pause(now, &error),
            }
        }
    }

    fn fill_reserve(&mut self) -> io::Result<()> {
        while self.reserve.len() < ACCEPT_TURN {
            self.reserve.push((self.open)()?);
        }
        Ok(())
    }

    fn pause<T>(&mut self, now: Duration, error: &io::Error) -> Accepted<T> {
        if error.kind() == ErrorKind::WouldBlock {
            return Accepted::Empty;
        }
        self.refused(now, error);
        self.from = now + PAUSE;
        Accepted::Later(self.from)
    }

    /// Counts each refusal, and logs the first.
    fn refused(&mut self, now: Duration, error: &io::Error) {
        Counters::add(&self.counters.exhausted);
        if self.refused_since.is_none() {
            self.refused_since = Some(now);
            tracing::warn!(
                "{}: cannot accept a connection: {error}; others wait until one is closed (for \"too many open files\" raise LimitNOFILE=)",
                self.counters.name()
            );
        }
    }

    fn recovered(&mut self, now: Duration) {
        if let Some(since) = self.refused_since.take() {
            let waited = now.saturating_sub(since).as_secs_f64();
            tracing::info!("{}: accepts connections again after {waited:.1} s", self.counters.name());
        }
    }
}

/// Errors of a connection that was reset or lost its way before it was accepted, and interrupted calls.
const OF_THE_CONNECTION: [Errno; 11] = [
    Errno::INTR,
    Errno::CONNABORTED,
    Errno::CONNRESET,
    Errno::NETDOWN,
    Errno::PROTO,
    Errno::NOPROTOOPT,
    Errno::HOSTDOWN,
    Errno::NONET,
    Errno::HOSTUNREACH,
    Errno::OPNOTSUPP,
    Errno::NETUNREACH,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn error(errno: Errno) -> io::Error {
        errno.into()
    }

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_connection_that_was_aborted_does_not_hide_the_next_one() {
        let mut acceptor = Acceptor::new(Counters::named("test"));
        let mut results = vec![Ok(7), Err(error(Errno::CONNABORTED)), Err(error(Errno::INTR))];
        assert_eq!(acceptor.accept(at(0), || results.pop().unwrap()), Accepted::Connection(7));
        assert_eq!(acceptor.accept(at(0), || Err::<i32, _>(ErrorKind::WouldBlock.into())), Accepted::Empty);
    }

    /// An accept that works only at every second call: once something of the reserve was released.
    fn without_descriptors() -> impl FnMut() -> io::Result<i32> {
        let mut calls = 0;
        move || {
            calls += 1;
            if calls % 2 == 0 { Ok(calls / 2) } else { Err(error(Errno::MFILE)) }
        }
    }

    /// One is left, and the system has none.
    fn use_up(acceptor: &mut Acceptor) {
        acceptor.reserve.truncate(1);
        acceptor.open = || Err(error(Errno::MFILE));
    }

    #[test]
    fn the_reserve_serves_connections_when_descriptors_end() {
        let counters = Counters::named("test");
        let mut acceptor = Acceptor::new(counters.clone());
        let mut accept = without_descriptors();
        // Here the system has some: each time the reserve is filled again.
        for number in 1..=2 {
            assert_eq!(acceptor.accept(at(0), &mut accept), Accepted::Connection(number));
            assert_eq!((acceptor.reserve.len(), acceptor.paused_until(at(0))), (ACCEPT_TURN - 1, None));
        }
        use_up(&mut acceptor);
        assert_eq!(acceptor.accept(at(0), &mut accept), Accepted::Connection(3));
        assert_eq!(counters.status().exhausted, 3);
        // The last one has some time, and then something of the reserve must be there again.
        assert_eq!(acceptor.accept(at(99), || Ok(8)), Accepted::Later(at(100)));
        assert_eq!(acceptor.accept(at(100), || Ok(8)), Accepted::Later(at(200)));
        acceptor.open = || File::open("/dev/null");
        acceptor.relieved();
        assert_eq!(acceptor.accept(at(101), || Ok(8)), Accepted::Connection(8));
        assert!(acceptor.reserve.len() == ACCEPT_TURN && acceptor.refused_since.is_none());
    }

    #[test]
    fn a_connection_that_was_closed_for_the_next_one_ends_the_pause() {
        let mut acceptor = Acceptor::new(Counters::named("test"));
        use_up(&mut acceptor);
        assert_eq!(acceptor.accept(at(0), without_descriptors()), Accepted::Connection(1));
        assert_eq!(acceptor.paused_until(at(0)), Some(at(100)));
        acceptor.open = || File::open("/dev/null");
        acceptor.relieved();
        assert_eq!(acceptor.accept(at(0), || Ok(8)), Accepted::Connection(8));
    }

    #[test]
    fn a_system_without_memory_is_asked_a_few_times_a_second() {
        let counters = Counters::named("test");
        let mut acceptor = Acceptor::new(counters.clone());
        let mut asked = 0;
        for ms in 0..1000 {
            let mut refuse = || -> io::Result<()> {
                asked += 1;
                Err(error(Errno::NOBUFS))
            };
            let until = at(ms / 100 * 100 + 100);
            assert_eq!(acceptor.accept(at(ms), &mut refuse), Accepted::Later(until));
        }
        assert_eq!((asked, counters.status().exhausted), (10, 10));
        assert_eq!(acceptor.paused_until(at(1000)), None);
        assert_eq!(acceptor.accept(at(1000), || Ok(1)), Accepted::Connection(1));
    }
}
