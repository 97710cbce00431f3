//! What the thread does about the next hops of this host: it follows the server, the host's own table and addresses, and tells which gateways
//! are the host itself.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::time::Instant;

use fibcast_netlink::{Received, Route};

use super::super::host::{self, Host};
use super::super::next_hop::NextHop;
use super::super::resolver::Resolver;
use super::super::route::Unfit;
use super::super::table::RouteKey;
use super::super::{Kernel, Shared};
use super::{SETTLE, Worker};

/// Most reads of notifications in one turn.
const READS: usize = 64;
/// Reading the host's own table, which may be large, takes at most this part of the time.
const SHARE: u32 = 20;

/// Index of an interface by its name.
fn interface(name: &str) -> Option<u32> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
    rustix::net::netdevice::name_to_index(socket.as_fd(), name).ok()
}

/// What is known before the host's tables are read.
pub(super) fn resolver(config: &Kernel, status: &Shared) -> Resolver {
    let server = status.lock().server;
    Resolver { next_hop: config.next_hop, server, host: Host::default(), interface }
}

impl Worker {
    /// Takes the address of the server that the agent is synchronised with now. Each route gets its new gateway in place of the old one.
    pub(super) fn follow_server(&mut self) {
        let server = self.status.lock().server;
        if server == self.resolver.server {
            return;
        }
        self.resolver.server = server;
        if !self.config.next_hop.need_server() {
            return;
        }
        let begin = Instant::now();
        let changed = self.table.host_changed(&self.resolver);
        let count = changed.len();
        self.write(changed.into_iter().collect());
        if let Some(server) = server {
            tracing::info!(
                "kernel table {}: the next hop is the server {}; {count} routes changed in {} ms",
                self.config.table,
                server.ip().to_canonical(),
                begin.elapsed().as_millis()
            );
        }
    }

    /// Reads the tables of the host itself.
    pub(super) fn read_host(&mut self) {
        let begin = Instant::now();
        match Host::read(&mut self.socket) {
            Ok(host) => self.resolver.host = host,
            // What was known stays in force until the next change.
            Err(error) => {
                let text = format!("reading the host's own table: {error}");
                self.log.warn(self.start.elapsed(), &format!("kernel table {}", self.config.table), &text);
                self.show(|status| status.last_error = Some(text));
            }
        }
        self.look_again = Instant::now() + begin.elapsed() * SHARE;
    }

    /// The host's own table has changed: gateways may be reached in another way.
    pub(super) fn host_changed(&mut self) {
        self.read_host();
        let changed = self.table.host_changed(&self.resolver);
        if self.leftovers.is_none() {
            self.write(changed.into_iter().collect());
        }
    }

    /// Reads notifications about routes in the host's own table.
    pub(super) fn listen_to_main(&mut self) {
        let mut route = Route::default();
        let mut changed = false;
        for _ in 0..READS {
            match self.main.receive() {
                Ok(Received::Nothing) | Err(_) => break,
                Ok(Received::Lost) => changed = true,
                Ok(Received::Messages(messages)) => {
                    for message in messages.flatten() {
                        changed |= route.read(&message) == Ok(true) && route.table == host::MAIN;
                    }
                }
            }
        }
        if changed {
            let at = self.look_again.max(Instant::now() + SETTLE);
            self.look_at.get_or_insert(at);
            // A gateway may have become reachable.
            self.retry = super::RETRY;
        }
    }

    /// A route cannot be written: tells it, or, where many share the cause, the first one.
    pub(super) fn unfit(&mut self, key: RouteKey, reason: &Unfit) {
        if let Unfit::OwnAddress(gateway) = reason {
            self.own_gateway.insert(key, *gateway);
        }
        if !reason.is_shared() {
            self.complain(key, &reason.to_string());
        } else if self.told.insert(reason.clone()) {
            let text = format!("{reason}: neither this route nor others by it are given to the kernel");
            self.complain(key, &text);
        }
    }

    pub(super) fn show_own_gateways(&mut self) {
        let own = &self.own_gateway;
        // When the last route is gone, the next one is news again.
        let in_use = |gateway: &IpAddr| own.values().any(|other| other == gateway);
        self.told.retain(|reason| !matches!(reason, Unfit::OwnAddress(gateway) if !in_use(gateway)));
        let example = own.iter().min().map(|(key, gateway)| {
            let cause = match self.config.next_hop {
                hops if [hops.ipv4, hops.ipv6].contains(&NextHop::Keep) => "",
                _ => " ([kernel] next_hop)",
            };
            format!("{} via {gateway}{cause}", key.1)
        });
        let count = own.len() as u64;
        self.show(|status| (status.own_gateway, status.own_gateway_example) = (count, example));
    }
}
