//! Checks of a running daemon: servers, workers, pending batches.

use std::path::Path;
use std::time::Duration;

use fibcast_control::status::{KernelStatus, Kind, Status};
use fibcast_control::tables::{DropCount, DropList, PortList, WorkerList};
use fibcast_control::{Answer, DataplaneRequest, Request, ask};

use super::finding::{Finding, Grade};

/// Queries the daemon at a socket. Also returns its process id if it is a dataplane.
pub fn look(socket: &Path, timeout: Duration) -> (Vec<Finding>, Option<u32>) {
    let status = match ask(socket, &Request::Status, timeout) {
        Ok(Answer::Status(status)) => *status,
        Ok(_) => return (vec![strange()], None),
        Err(error) => {
            let advice = "is it running, and may this user open its socket? journalctl -u fibcast-dataplane says why it ended (or -u \
                          fibcast-route-server, -u fibcast-agent)";
            return (vec![Finding::of(Grade::Bad, "daemon", error.to_string(), advice)], None);
        }
    };
    let mut findings = vec![daemon(&status)];
    findings.extend(super::threads::findings(&status.threads));
    findings.extend(servers(&status));
    findings.extend(super::certificates::findings(&status.certificates));
    findings.extend(forwarding(&status));
    findings.extend(status.kernel.iter().flat_map(kernel));
    if status.kind == Kind::Dataplane
        && let Ok(Answer::Workers(list)) = ask(socket, &DataplaneRequest::Workers.into(), timeout)
    {
        findings.extend(workers(&list));
    }
    if status.kind == Kind::Dataplane
        && let Ok(Answer::Drops(list)) = ask(socket, &DataplaneRequest::Drops.into(), timeout)
    {
        findings.extend(zero_frames(&list));
        findings.extend(super::limits::findings(&status, &list));
        if let Ok(Answer::Ports(ports)) = ask(socket, &DataplaneRequest::Ports.into(), timeout) {
            findings.extend(segmentation(&ports, &list));
        }
    }
    (findings, Some(status.pid).filter(|_| status.kind == Kind::Dataplane))
}

fn strange() -> Finding {
    Finding::of(
        Grade::Bad,
        "daemon",
        "sent an unexpected answer",
        "use the fibcast command with the daemon's version",
    )
}

fn daemon(status: &Status) -> Finding {
    let found = format!("{} {}, up {} s", status.name, status.version, status.uptime_ms / 1_000);
    match (status.ready, status.stale) {
        (true, false) => Finding::fine("daemon", format!("{found}, ready")),
        (_, true) => Finding::of(
            Grade::Bad,
            "daemon",
            format!("{found}, stale: no capable server"),
            "it forwards by its last table; see the servers below",
        ),
        (false, false) => Finding::of(
            Grade::Warning,
            "daemon",
            format!("{found}, not ready yet"),
            "fibcast show status shows what it is waiting for",
        ),
    }
}

fn servers(status: &Status) -> Vec<Finding> {
    let all = status.sync.iter().flat_map(|sync| &sync.servers);
    let one = |server: &fibcast_control::status::ServerStatus| {
        let who = format!("{} {}: {}", server.role, server.address, server.state);
        if server.state == "active" || server.state == "standby" {
            return if server.ready {
                Finding::fine("server", who)
            } else {
                let advice = "it has not converged, so nobody uses it: run fibcast show status there";
                Finding::of(Grade::Warning, "server", format!("{who}, not ready"), advice)
            };
        }
        let why = server.last_error.as_deref().unwrap_or("no error yet");
        let advice = "does the route server run and listen there, do firewalls allow TCP 7830, are the certificates right?";
        Finding::of(Grade::Warning, "server", format!("{who} ({why})"), advice)
    };
    all.map(one).collect()
}

fn forwarding(status: &Status) -> Vec<Finding> {
    let Some(forwarding) = &status.forwarding else { return Vec::new() };
    let mut findings = Vec::new();
    if let Some(error) = &forwarding.apply_error {
        let advice = "the table does not change until the batch fits: raise the limit that it names, or send fewer routes";
        findings.push(Finding::of(Grade::Bad, "table", error.clone(), advice));
    }
    let (all, lost) = (forwarding.next_hops, forwarding.next_hops_unresolved);
    findings.push(if lost == 0 {
        Finding::fine("next hops", format!("{all}, all of them answer"))
    } else {
        let advice = "fibcast show neighbors: incomplete ones do not answer ARP or ND; a gateway on no subnet needs a route";
        Finding::of(Grade::Warning, "next hops", format!("{lost} of {all} do not answer"), advice)
    });
    if forwarding.agent_restarts != 0 {
        let found = format!("restarted {} times", forwarding.agent_restarts);
        findings.push(Finding::of(Grade::Warning, "agent", found, "the log says why; please report it"));
    }
    findings
}

/// A kernel table: routes that are not in force.
fn kernel(kernel: &KernelStatus) -> Vec<Finding> {
    let table = kernel.table;
    let mut findings = Vec::new();
    if kernel.refused != 0 {
        let reason = kernel.last_refusal.as_deref().unwrap_or("no reason known");
        let found = format!("table {table}: {} routes are refused, for example {reason}", kernel.refused);
        let advice = "make the gateways reachable, or remove routes of others from the table; [kernel] accept_refused if this is meant";
        findings.push(Finding::of(grade(kernel.refusals_accepted), "kernel", found, advice));
    }
    if kernel.shadowed != 0 {
        let example = kernel.shadow.as_deref().unwrap_or("none known");
        let found = format!("table {table}: {} routes are shadowed, for example {example}", kernel.shadowed);
        let advice = "packets take the other routes: remove them, lower [kernel] metric, or set [kernel] accept_shadowed if this is meant";
        findings.push(Finding::of(grade(kernel.shadows_accepted), "kernel", found, advice));
    }
    if findings.is_empty() {
        findings.push(Finding::fine("kernel", format!("table {table}: {} routes", kernel.routes)));
    }
    findings
}

/// Of what is not in force: the operator may have accepted it.
fn grade(accepted: bool) -> Grade {
    if accepted { Grade::Warning } else { Grade::Bad }
}

/// Devices that report frames without writing them.
fn zero_frames(list: &DropList) -> Vec<Finding> {
    let one = |drop: &DropCount| {
        let found = format!("port {}: {} received frames were all zero", drop.port, drop.packets);
        let advice = "its device does not reach the packet buffers by DMA: look for IOMMU faults (dmesg | grep -e DMAR -e AMD-Vi), and check that \
                      it is bound to vfio-pci";
        Finding::of(Grade::Bad, "DMA", found, advice)
    };
    list.drops.iter().filter(|drop| drop.reason == "zero_frame").map(one).collect()
}

/// Ports on packet sockets that received packets which nobody has cut yet, of which they have the first frame.
fn segmentation(ports: &PortList, drops: &DropList) -> Vec<Finding> {
    let on_socket = |name: &str| {
        ports.ports.iter().any(|port| port.name == name && port.driver.as_str() == "net_af_packet")
    };
    let one = |drop: &DropCount| {
        let found = format!("port {}: {} packets were longer than their frames", drop.port, drop.packets);
        let advice = "senders left them to be cut, or the kernel joined them: see the log of the start; ethtool -K IF tso off gso off at the other end \
                      of a veth pair, in its namespace, or ethtool -K IF gro off lro off on the interface itself";
        Finding::of(Grade::Warning, "segmentation", found, advice)
    };
    let cut = drops.drops.iter().filter(|drop| drop.reason == "bad_length" && drop.packets != 0);
    cut.filter(|drop| on_socket(&drop.port)).map(one).collect()
}

fn workers(list: &WorkerList) -> Vec<Finding> {
    let one = |worker: &fibcast_control::tables::WorkerStatus| {
        let found = format!(
            "{} on core {}: {:.0} % busy, {:.0} % CPU",
            worker.worker, worker.core, worker.busy_percent, worker.cpu_percent
        );
        if worker.stalled {
            let advice = "its thread makes no progress: see the log, and restart the daemon";
            return Finding::of(Grade::Bad, "worker", format!("{found}, stalled"), advice);
        }
        if worker.busy_percent > 95.0 {
            let advice = "add cores to [workers], and queues or spread = \"on\" for the ports";
            return Finding::of(Grade::Warning, "worker", found, advice);
        }
        Finding::fine("worker", found)
    };
    let lost = |worker: &fibcast_control::tables::WorkerStatus| {
        let found = format!(
            "{} packets of the router itself could not be sent by worker {}",
            worker.originate_failed, worker.worker
        );
        let advice = "a flood of ARP, ND or pings on a port costs answers on that port; or buffers ran out, or a device takes no more";
        (worker.originate_failed != 0).then(|| Finding::of(Grade::Warning, "limits", found, advice))
    };
    list.workers.iter().map(one).chain(list.workers.iter().filter_map(lost)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use fibcast_control::tables::PortStatus;
    use fibcast_daemon::control::ControlServer;

    fn answers(text: &'static str) -> Vec<Finding> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.sock");
        let _server = ControlServer::start(&path, move |request| match request {
            Request::Status => Ok(serde_json::from_str(text).map(Answer::Status).unwrap()),
            _ => Ok(Answer::Workers(WorkerList::default())),
        })
        .unwrap();
        look(&path, Duration::from_secs(5)).0
    }

    #[test]
    fn a_server_that_cannot_be_reached_comes_with_its_error_and_advice() {
        let findings = answers(
            r#"{"name":"nh-1","kind":"dataplane","version":"0","pid":1,"uptime_ms":1,"resident_bytes":1,"ready":false,"stale":true,
            "table":{"epoch":1,"serial":9,"ipv4_routes":5,"ipv6_routes":6,"groups":1,"records":1,"digest":"","changes":1},
            "sync":{"active":null,"failovers":0,"last_failover_ms":null,"routes_copied":0,"last_failover_routes_copied":0,
            "routes_differing":0,"routes_applied":0,"routes_passed_on":0,"digest_mismatches":0,"servers":[
            {"address":"10.0.0.1:7830","role":"primary","name":null,"state":"connecting","ready":false,"received_bytes":0,
            "last_error":"connection refused"}]}}"#,
        );
        assert_eq!(findings[0].grade, Grade::Bad);
        assert!(
            findings[1].found.contains("primary 10.0.0.1:7830: connecting (connection refused)"),
            "{findings:?}"
        );
        assert!(findings[1].advice.contains("7830"));
    }

    #[test]
    fn ports_on_packet_sockets_that_got_packets_in_one_piece_are_warned_about() {
        let port = |name: &str, driver: &str| PortStatus {
            name: name.into(),
            driver: driver.into(),
            ..PortStatus::default()
        };
        let ports = PortList {
            ports: vec![port("p0", "net_af_packet"), port("p1", "net_af_packet"), port("p2", "net_ixgbe")],
            ..PortList::default()
        };
        let drop =
            |port: &str, reason: &str| DropCount { port: port.into(), reason: reason.into(), packets: 7 };
        let drops = DropList {
            drops: vec![drop("p0", "bad_length"), drop("p1", "no_route"), drop("p2", "bad_length")],
            ..DropList::default()
        };
        let findings = segmentation(&ports, &drops);
        assert!(findings.len() == 1 && findings[0].found.contains("p0: 7"), "{findings:?}");
        assert!(findings[0].advice.contains("ethtool -K IF tso off gso off"));
    }

    #[test]
    fn frames_of_zeros_are_bad_and_named_with_their_port() {
        let drop =
            |port: &str, reason: &str| DropCount { port: port.into(), reason: reason.into(), packets: 7 };
        let list =
            DropList { drops: vec![drop("p0", "no_route"), drop("p1", "zero_frame")], ..DropList::default() };
        let findings = zero_frames(&list);
        assert!(findings.len() == 1 && findings[0].grade == Grade::Bad, "{findings:?}");
        assert!(
            findings[0].found.contains("port p1: 7 received frames") && findings[0].advice.contains("DMAR")
        );
    }

    #[test]
    fn routes_that_a_kernel_does_not_forward_by_are_bad_unless_they_are_accepted() {
        let fine = KernelStatus { table: 200, routes: 7, ..KernelStatus::default() };
        assert_eq!(kernel(&fine).iter().map(|finding| finding.grade).collect::<Vec<_>>(), [Grade::Fine]);
        for (accepted, expected) in [(false, Grade::Bad), (true, Grade::Warning)] {
            let status = KernelStatus {
                refused: 2,
                refusals_accepted: accepted,
                shadowed: 3,
                shadows_accepted: accepted,
                shadow: Some("10.0.0.0/8 by a route of protocol static".into()),
                ..fine.clone()
            };
            let findings = kernel(&status);
            assert!(findings.len() == 2 && findings.iter().all(|finding| finding.grade == expected));
            assert!(
                findings[1].found.contains("3 routes are shadowed, for example 10.0.0.0/8"),
                "{findings:?}"
            );
        }
    }

    #[test]
    fn packets_of_the_router_that_found_no_room_are_warned_about() {
        let worker = |originate_failed| fibcast_control::tables::WorkerStatus {
            originate_failed,
            ..Default::default()
        };
        let findings = workers(&WorkerList { workers: vec![worker(0), worker(9)], ..WorkerList::default() });
        let grades: Vec<Grade> = findings.iter().map(|finding| finding.grade).collect();
        assert_eq!(grades, [Grade::Fine, Grade::Fine, Grade::Warning], "{findings:?}");
        assert!(findings[2].found.starts_with("9 packets"), "{findings:?}");
    }

    #[test]
    fn no_daemon_is_bad_and_says_where_to_look() {
        let (findings, pid) = look(Path::new("/nonexistent/x.sock"), Duration::from_secs(1));
        assert_eq!(pid, None);
        assert!(
            findings.len() == 1
                && findings[0].grade == Grade::Bad
                && findings[0].advice.contains("journalctl")
        );
    }
}
