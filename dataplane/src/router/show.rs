//! What an operator sees of ports, workers and drops, read from counters without involving a worker.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fibcast_control::protocol::{Answer, CounterPage, DataplaneRequest, RouteRequest};
use fibcast_control::status::ForwardingStatus;
use fibcast_control::tables::{
    DropCount, DropList, GroupList, IcmpCount, PortList, PortStatus, QueueStatus, RouteList, WorkerList,
    WorkerStatus,
};

use fibcast_fib::VrfId;

use super::cleared::Cleared;
use super::own_routes::OperatorRoutes;
use super::state::{DeviceState, DeviceStates};
use super::watch::Health;
use super::worker_name;
use crate::capture::{CaptureOptions, Hub};
use crate::config::{Config, Port, SavedRoutes};
use crate::control::thread::ControlHandle;
use crate::counters::{QueueSnapshot, Snapshot, WorkerCounters};
use crate::packet::icmp_kind::Kind;
use crate::reason::Reason;

/// How long the control thread may take to answer. It needs a second to apply a full table.
pub(super) const CONTROL_TIMEOUT: Duration = Duration::from_secs(8);

pub(super) fn late() -> String {
    "the control thread does not answer".to_owned()
}

/// Everything that can be looked at.
#[derive(Debug)]
pub struct View {
    pub(super) configured: Vec<Port>,
    cores: Vec<usize>,
    devices: DeviceStates,
    health: Arc<[Health]>,
    capture: Arc<Hub>,
    pub(super) seed: u64,
    counters: Vec<Arc<WorkerCounters>>,
    /// By worker: the indices of the ports that its queues belong to.
    polled: Vec<Vec<usize>>,
    pub(super) control: ControlHandle,
    /// The configuration in force: the file with what a reload changed.
    pub(super) config: Mutex<Config>,
    /// Routes that operators added.
    pub(super) operators: Mutex<OperatorRoutes>,
    /// Where the counters stood when an operator cleared them.
    cleared: Mutex<Cleared>,
}

impl View {
    pub(super) fn new(
        (config, saved): (&Config, SavedRoutes),
        devices: DeviceStates,
        health: Arc<[Health]>,
        capture: Arc<Hub>,
        counters: Vec<Arc<WorkerCounters>>,
        polled: Vec<Vec<usize>>,
        control: ControlHandle,
    ) -> View {
        View {
            configured: config.ports.clone(),
            cores: config.workers.cores.clone(),
            devices,
            health,
            capture,
            seed: super::seed(&config.node.name),
            counters,
            polled,
            control,
            config: Mutex::new(config.clone()),
            operators: Mutex::new(OperatorRoutes::new(saved)),
            cleared: Mutex::default(),
        }
    }

    /// A page of the routes that the host forwards by.
    ///
    /// # Errors
    ///
    /// The control thread does not answer in time.
    pub fn routes(&self, request: RouteRequest) -> Result<RouteList, String> {
        self.control.ask(CONTROL_TIMEOUT, move |control| control.routes(&request)).ok_or_else(late)
    }

    /// Next-hop groups, and what was forwarded by each.
    ///
    /// # Errors
    ///
    /// The control thread does not answer in time.
    pub fn groups(&self) -> Result<GroupList, String> {
        let counters = self.counters.clone();
        self.control.ask(CONTROL_TIMEOUT, move |control| control.groups(&counters)).ok_or_else(late)
    }

    /// Answers what a dataplane alone can be asked.
    ///
    /// # Errors
    ///
    /// The control thread does not answer in time, or refuses what was asked, with the reason.
    pub fn answer(&self, request: DataplaneRequest) -> Result<Answer, String> {
        match request {
            DataplaneRequest::Neighbors => {
                let neighbors = self.control.ask(CONTROL_TIMEOUT, |control| control.neighbor_list());
                neighbors.map(Answer::Neighbors).ok_or_else(late)
            }
            DataplaneRequest::Ports => Ok(Answer::Ports(self.ports(&Cleared::default()))),
            DataplaneRequest::Workers => Ok(Answer::Workers(self.workers(&Cleared::default()))),
            DataplaneRequest::Drops => Ok(Answer::Drops(self.drops(&Cleared::default()))),
            DataplaneRequest::SinceClear(page) => {
                let cleared = self.cleared().clone();
                Ok(match page {
                    CounterPage::Ports => Answer::Ports(self.ports(&cleared)),
                    CounterPage::Workers => Answer::Workers(self.workers(&cleared)),
                    CounterPage::Drops => Answer::Drops(self.drops(&cleared)),
                })
            }
            DataplaneRequest::ClearCounters => self.clear_counters().map(Answer::Done),
            DataplaneRequest::Interfaces => Ok(Answer::Interfaces(self.interfaces())),
            DataplaneRequest::NextHops { unresolved } => {
                let list =
                    self.control.ask(CONTROL_TIMEOUT, move |control| control.next_hop_list(unresolved));
                list.map(Answer::NextHops).ok_or_else(late)
            }
            DataplaneRequest::Trace { address, from, vrf } => {
                let seed = self.seed;
                let trace = self
                    .control
                    .ask_mut(CONTROL_TIMEOUT, move |control| control.trace(VrfId(vrf), address, from, seed));
                trace.map(Box::new).map(Answer::Trace).ok_or_else(late)
            }
            DataplaneRequest::Probe(request) => self.probe(*request).map(Box::new).map(Answer::Probed),
            // The control socket stops it when its connection is closed.
            DataplaneRequest::CaptureStart { port, directions, filter, until_closed: _ } => {
                self.capture.start(&CaptureOptions { port, directions, filter }).map(Answer::Captured)
            }
            DataplaneRequest::CaptureRead { id } => self.capture.read(id).map(Answer::Captured),
            DataplaneRequest::CaptureStop { id } => self.capture.stop(id).map(Answer::Captured),
            DataplaneRequest::NeighborAdd { port, address, mac } => {
                self.add_neighbor(port, address, &mac).map(Answer::Done)
            }
            DataplaneRequest::NeighborDelete { port, address } => {
                self.delete_neighbor(&port, address).map(Answer::Done)
            }
            DataplaneRequest::RouteAdd(route) => self.add_route(&route).map(Answer::Done),
            DataplaneRequest::RouteDelete { vrf, prefix, save } => {
                self.delete_route(vrf, prefix, save).map(Answer::Done)
            }
        }
    }

    /// Forwarding state; none if the control thread does not answer.
    pub fn forwarding(&self) -> Option<ForwardingStatus> {
        let forwarding = self.control.ask(CONTROL_TIMEOUT, |control| control.forwarding())?;
        Some(ForwardingStatus { workers_stalled: self.stalled() as u64, ..forwarding })
    }

    /// Number of workers that are stalled or have ended.
    pub fn stalled(&self) -> usize {
        self.health.iter().filter(|health| health.is_stalled()).count()
    }

    /// The counters of all workers.
    pub fn snapshots(&self) -> Vec<Snapshot> {
        self.counters.iter().map(|counters| counters.snapshot()).collect()
    }

    fn cleared(&self) -> MutexGuard<'_, Cleared> {
        self.cleared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the command shows counts from now on.
    fn clear_counters(&self) -> Result<String, String> {
        let asked = self.control.ask_mut(CONTROL_TIMEOUT, |control| {
            control.clear_group_counters();
            control.icmp_limited()
        });
        *self.cleared() = Cleared::now(self.snapshots(), &self.devices, asked.ok_or_else(late)?);
        Ok("counters of ports, workers, drops and groups are cleared; metrics go on".to_owned())
    }

    /// State of the device of a port, or of the port that a sub-interface belongs to.
    pub(super) fn device(&self, port_index: usize) -> Option<&DeviceState> {
        let parent = self.configured.get(port_index).and_then(|port| port.parent.as_ref());
        let parent = parent.and_then(|name| self.configured.iter().position(|port| port.name == *name));
        self.devices.get(parent.unwrap_or(port_index))
    }

    fn ports(&self, cleared: &Cleared) -> PortList {
        let snapshots = cleared.workers(self.snapshots());
        let device = |port_index: usize| self.device(port_index);
        let of_device = |port_index: usize| {
            self.devices.get(port_index).map_or((0, 0), |device| cleared.device(port_index, device))
        };
        let status = |(port_index, port): (usize, &Port)| {
            let mut status = PortStatus {
                name: port.name.clone(),
                device: port.device.clone().unwrap_or_else(|| {
                    let (parent, vlan) = (port.parent.as_deref().unwrap_or_default(), port.vlan.unwrap_or(0));
                    format!("{parent} vlan {vlan}")
                }),
                driver: device(port_index).map(|device| device.driver.clone()).unwrap_or_default(),
                mac: device(port_index).map(|device| device.mac.to_string()).unwrap_or_default(),
                link_up: device(port_index).and_then(DeviceState::link_up).unwrap_or(false),
                mtu: port.mtu,
                addresses: port.addresses.clone(),
                rx_packets: 0,
                rx_bytes: 0,
                tx_packets: 0,
                tx_bytes: 0,
                rx_missed: of_device(port_index).0,
                tx_errors: of_device(port_index).1,
                tx_backpressure: 0,
            };
            for port in snapshots.iter().filter_map(|worker| worker.ports.get(port_index)) {
                status.rx_packets += port.rx_packets;
                status.rx_bytes += port.rx_bytes;
                status.tx_packets += port.tx_packets;
                status.tx_bytes += port.tx_bytes;
                status.tx_backpressure += port.tx_backpressure;
            }
            status
        };
        PortList {
            ports: self.configured.iter().enumerate().map(status).collect(),
            cleared_age_ms: cleared.age_ms(),
        }
    }

    fn workers(&self, cleared: &Cleared) -> WorkerList {
        let destructors =
            self.control.ask(CONTROL_TIMEOUT, |control| control.destructors()).unwrap_or_default();
        let status = |(worker, (snapshot, &core)): (usize, (Snapshot, &usize))| WorkerStatus {
            worker,
            core,
            received: snapshot.received,
            sent: snapshot.sent,
            dropped: snapshot.dropped(),
            host: snapshot.host,
            originated: snapshot.originated,
            bursts: snapshot.bursts,
            idle_polls: snapshot.idle_polls,
            serial: snapshot.serial,
            idle: snapshot.idle,
            busy_percent: self.health.get(worker).map_or(0.0, Health::busy_percent),
            cpu_percent: self.health.get(worker).map_or(0.0, Health::cpu_percent),
            queues: self.queues(worker, &snapshot),
            stalled: self.health.get(worker).is_some_and(Health::is_stalled),
            held: snapshot.held,
            originate_failed: snapshot.originate_failed,
            icmp_sent: snapshot.icmp_sent,
            icmp_limited: snapshot.icmp_limited,
            fragments: snapshot.fragments,
            destructors: destructors
                .iter()
                .find(|(name, _)| *name == worker_name(worker))
                .map_or(0, |(_, count)| *count),
        };
        WorkerList {
            workers: cleared
                .workers(self.snapshots())
                .into_iter()
                .zip(&self.cores)
                .enumerate()
                .map(status)
                .collect(),
            cleared_age_ms: cleared.age_ms(),
        }
    }

    fn queues(&self, worker: usize, snapshot: &Snapshot) -> Vec<QueueStatus> {
        let ports = self.polled.get(worker).map_or(&[][..], Vec::as_slice);
        let name = |port_index: &usize| {
            self.configured.get(*port_index).map(|port| port.name.clone()).unwrap_or_default()
        };
        let status = |(port, queue): (&usize, &QueueSnapshot)| QueueStatus {
            port: name(port),
            packets: queue.packets,
            full_bursts: queue.full,
            software_rss: queue.steered,
        };
        ports.iter().zip(&snapshot.queues).map(status).collect()
    }

    fn drops(&self, cleared: &Cleared) -> DropList {
        let mut list = DropList { cleared_age_ms: cleared.age_ms(), ..DropList::default() };
        let snapshots = cleared.workers(self.snapshots());
        for snapshot in &snapshots {
            list.received += snapshot.received;
            list.sent += snapshot.sent;
            list.host += snapshot.host;
            list.dropped += snapshot.dropped();
            list.held += snapshot.held;
        }
        for (port_index, port) in self.configured.iter().enumerate() {
            for reason in Reason::ALL {
                let count =
                    |worker: &Snapshot| worker.ports.get(port_index)?.drops.get(*reason as usize).copied();
                let packets = snapshots.iter().filter_map(count).sum();
                if packets != 0 {
                    let (port, reason) = (port.name.clone(), reason.name().to_owned());
                    list.drops.push(DropCount { port, reason, packets });
                }
            }
        }
        let of_control =
            self.control.ask(CONTROL_TIMEOUT, |control| control.icmp_limited()).unwrap_or_default();
        for (kind, own) in Kind::ALL.into_iter().zip(cleared.icmp_limited(of_control)) {
            let count = |worker: &Snapshot| worker.icmp_limited_by.get(kind as usize).copied();
            let messages = own + snapshots.iter().filter_map(count).sum::<u64>();
            if messages != 0 {
                list.icmp_limited.push(IcmpCount { kind: kind.name().to_owned(), messages });
            }
        }
        list
    }
}
