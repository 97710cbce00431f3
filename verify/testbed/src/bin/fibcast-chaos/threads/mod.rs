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
    use Expected::{Healthy, Mended, Told};
    [
        // Its heartbeat is "engine".
        (RouteServer, "main", Told("thread engine"), "all sessions: clients take the next server"),
        (RouteServer, "source bgp", Told("thread source bgp"), "changes of that source"),
        (RouteServer, "monitor", Told("thread monitor"), "nothing; stalls are not acted upon"),
        (Agent, "agent", Told("thread agent"), "route changes here and in the tier below"),
        (Agent, "kernel", Told("thread kernel"), "route changes of the kernel's table"),
        (Agent, "checkpoint", Healthy, "the next checkpoint"),
        (Agent, "monitor", Told("thread monitor"), "nothing; stalls are not acted upon"),
        (
            Dataplane,
            "control",
            Told("thread control"),
            "ARP and ND answers, route changes; known flows go on",
        ),
        (Dataplane, "worker-0", Told("thread worker-0"), "the packets of its queues"),
        (Dataplane, "watch", Told("thread watch"), "detection of link changes; counters of devices"),
        (Dataplane, "exception-path", Told("thread exception-path"), "packets to and from the host itself"),
        (Dataplane, "agent", Mended("thread agent"), "route changes, until the agent is replaced after 10 s"),
        (Dataplane, "agent-guard", Told("thread agent-guard"), "nothing; a stalled agent is not replaced"),
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
            "nothing; its routes stay until it has told its table",
        ),
        (RouteServer, "monitor", Ends("nobody watches"), "all sessions: clients take the next server"),
        (Agent, "agent", Restarted("agent"), "sessions, for a moment; the table stays"),
        (Agent, "kernel", Restarted("kernel"), "nothing; the kernel's table is compared and mended"),
        (Agent, "monitor", Ends("nobody watches"), "nothing: the kernel goes on by its table"),
        (Dataplane, "control", Ends("thread control panicked"), "all, until the supervisor's restart"),
        (Dataplane, "worker-0", Ends("thread worker-0 panicked"), "all, until the supervisor's restart"),
        (Dataplane, "watch", Ends("thread watch panicked"), "all, until the supervisor's restart"),
        (
            Dataplane,
            "exception-path",
            Ends("thread exception-path panicked"),
            "all, until the supervisor's restart",
        ),
        (Dataplane, "agent", Restarted("agent"), "nothing; workers go on by the table"),
        (
            Dataplane,
            "agent-guard",
            Ends("thread agent-guard panicked"),
            "all, until the supervisor's restart",
        ),
    ]
}
