//! Every thread of every daemon that is on the way of a route or a packet, stopped and in panic. [`case`] watches one, [`fault`] does the harm.

pub mod case;
mod fault;

use crate::subject::Subject::{self, Agent, Dataplane, RouteServer};
use case::{Case, Expected};
use fault::{Fault, Panic, Stop};

/// All cases.
pub fn all() -> Vec<Case> {
    let case = |subject, fault, expected, lost| Case { subject, fault, keys: "", expected, lost };
    let mut cases: Vec<Case> = stops().map(|(s, comm, e, lost)| case(s, stop(comm), e, lost)).into();
    // A few seconds instead of 30, to see the end.
    let soon = stop("control");
    let ends = Expected::Ends("thread control has made no progress for 4.");
    cases.push(Case {
        subject: Dataplane,
        fault: soon,
        keys: "stall_exit_s = 4",
        expected: ends,
        lost: "ARP and ND answers, route changes; from the end until the supervisor's restart, all",
    });
    cases.extend(
        panics().map(|(s, thread, e, lost)| case(s, Box::new(Panic { thread }) as Box<dyn Fault>, e, lost)),
    );
    cases
}

fn stop(comm: &'static str) -> Box<dyn Fault> {
    Box::new(Stop { comm })
}

fn stops() -> [(Subject, &'static str, Expected, &'static str); 13] {
    use Expected::{Healthy, Mended, Reported};
    [
        // Its heartbeat is "engine".
        (RouteServer, "main", Reported("thread engine"), "all sessions: clients take the next server"),
        (RouteServer, "source bgp", Reported("thread source bgp"), "changes of that source"),
        (RouteServer, "monitor", Reported("thread monitor"), "nothing; stalls are not acted upon"),
        (Agent, "agent", Reported("thread agent"), "route changes here and in the tier below"),
        (Agent, "kernel", Reported("thread kernel"), "route changes of the kernel's table"),
        (Agent, "checkpoint", Healthy, "the next checkpoint"),
        (Agent, "monitor", Reported("thread monitor"), "nothing; stalls are not acted upon"),
        (
            Dataplane,
            "control",
            Reported("thread control"),
            "ARP and ND answers, route changes; known flows continue",
        ),
        (Dataplane, "worker-0", Reported("thread worker-0"), "the packets of its queues"),
        (Dataplane, "watch", Reported("thread watch"), "detection of link changes; counters of devices"),
        (
            Dataplane,
            "exception-path",
            Reported("thread exception-path"),
            "packets to and from the host itself",
        ),
        (Dataplane, "agent", Mended("thread agent"), "route changes, until the agent is replaced after 10 s"),
        (
            Dataplane,
            "agent-guard",
            Reported("thread agent-guard"),
            "nothing; a stalled agent is not replaced",
        ),
    ]
}

fn panics() -> [(Subject, &'static str, Expected, &'static str); 12] {
    use Expected::{Ends, Restarted};
    [
        (RouteServer, "engine", Ends("panicked"), "all sessions: clients take the next server"),
        (
            RouteServer,
            "source bgp",
            Restarted("source bgp"),
            "nothing; its routes stay until it has announced its table",
        ),
        (RouteServer, "monitor", Ends("nobody watches"), "all sessions: clients take the next server"),
        (Agent, "agent", Restarted("agent"), "sessions, for a moment; the table stays"),
        (Agent, "kernel", Restarted("kernel"), "nothing; the kernel's table is compared and mended"),
        (Agent, "monitor", Ends("nobody watches"), "nothing: the kernel forwards by its table"),
        (Dataplane, "control", Ends("thread control panicked"), "all, until the supervisor's restart"),
        (Dataplane, "worker-0", Ends("thread worker-0 panicked"), "all, until the supervisor's restart"),
        (Dataplane, "watch", Ends("thread watch panicked"), "all, until the supervisor's restart"),
        (
            Dataplane,
            "exception-path",
            Ends("thread exception-path panicked"),
            "all, until the supervisor's restart",
        ),
        (Dataplane, "agent", Restarted("agent"), "nothing; workers continue with the table"),
        (
            Dataplane,
            "agent-guard",
            Ends("thread agent-guard panicked"),
            "all, until the supervisor's restart",
        ),
    ]
}
