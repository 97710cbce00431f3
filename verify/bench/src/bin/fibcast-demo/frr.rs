//! Real FRR beside each route server: zebra, staticd and bgpd, one BGP speaker that feeds both bgpds, and the project's own helper that says
//! when FRR has converged. Everything that an operator would install stands in the same places; only the folders are the demo's.

use std::path::Path;
use std::time::Instant;

use fibcast_control::status::SourceStatus;
use fibcast_testbed::config::LANS;
use fibcast_testbed::netns::address;
use fibcast_testbed::process::{find, run};
use fibcast_testbed::{Failure, Namespace, Process};

use crate::files::Layout;
use crate::verdict::grouped;
use crate::watch::Watched;

/// Hosts with FRR, in the order of their addresses.
pub const HOSTS: [&str; 2] = ["rs-a", "rs-b"];
/// The host of the BGP speaker.
pub const SPEAKER: &str = "upstream";
/// All hosts, in the order of their addresses.
pub const ALL_HOSTS: [&str; 5] = ["rs-a", "rs-b", "nh-1", "nh-2", SPEAKER];

/// For so long the numbers of routes must stand still until FRR counts as converged: two FRRs share few cores, and pause while they load.
const SETTLE_S: &str = "8";
/// For so long a new zebra keeps routes of the one before that nobody claims: docs/frr.md.
const RETAIN_S: u32 = 120;

/// What runs beside the route servers, and how far it is.
pub struct Frr {
    daemons: Vec<fibcast_testbed::Frr>,
    sentinels: Vec<Process>,
    speaker: Process,
    started: Instant,
    /// Of each host.
    progress: [Progress; 2],
}

/// How far one zebra and its route server are, in seconds since the speaker was started.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    /// Routes that zebra has sent.
    sent: u64,
    /// Of those, in the route server's table.
    taken: u64,
    /// zebra sent its first route.
    first_s: Option<f64>,
    /// zebra sent its last route.
    last_s: f64,
    /// The route server had it.
    taken_s: f64,
}

impl Progress {
    fn note(&mut self, now: f64, sources: &[SourceStatus]) {
        let sent = sources.iter().filter_map(|source| source.counters.get("routes_heard")).sum();
        let taken = sources.iter().map(|source| source.routes).sum();
        if sent > self.sent {
            self.first_s.get_or_insert(now);
            (self.sent, self.last_s) = (sent, now);
        }
        if taken > self.taken {
            (self.taken, self.taken_s) = (taken, now);
        }
    }
}

impl Frr {
    /// Starts everything, on [`ALL_HOSTS`]. The route servers run already, so that zebra finds them.
    pub fn start(
        hosts: &[Namespace],
        programs: &Path,
        packaging: &Path,
        layout: &Layout,
    ) -> Result<Frr, Failure> {
        let (mut daemons, mut sentinels) = (Vec::new(), Vec::new());
        let at = |name: &str| ALL_HOSTS.iter().position(|host| *host == name).unwrap_or_default();
        let speaker = address(at(SPEAKER) + 1);
        // Daemons of FRR run as a user of their own, who must be able to get there.
        run("chmod", &["755", &layout.folder.display().to_string()])?;
        for (host, number) in hosts.iter().zip(1..).take(HOSTS.len()) {
            // Beside the addresses of the dataplane, which has the first of each subnet.
            let own: Vec<String> = LANS.iter().flat_map(|lan| lan.addresses(number as u8 + 1)).collect();
            host.uplink(&own.iter().map(String::as_str).collect::<Vec<_>>())?;
            let folder = layout.folder.join(format!("frr-{}", host.host()));
            let conf = configuration(host.host(), &address(number), &speaker);
            let frr = fibcast_testbed::Frr::new(host, folder, &conf)?;
            ["zebra", "staticd", "bgpd"].iter().try_for_each(|daemon| frr.start(daemon, RETAIN_S))?;
            frr.configure()?;
            sentinels.push(frr.sentinel(&packaging.join("frr/fibcast-sentinel"), &["--settle", SETTLE_S])?);
            daemons.push(frr);
        }
        let neighbors = (1..=HOSTS.len()).map(address);
        let speaker = layout.internet.speaker(programs, &hosts[at(SPEAKER)], &layout.folder, neighbors)?;
        Ok(Frr { daemons, sentinels, speaker, started: Instant::now(), progress: Default::default() })
    }

    /// An error if something has ended.
    pub fn check(&mut self) -> Result<(), Failure> {
        self.speaker.check()?;
        self.sentinels.iter_mut().try_for_each(Process::check)?;
        self.daemons.iter().try_for_each(fibcast_testbed::Frr::check)
    }

    /// How far each route server is, for the screen.
    pub fn lines(&mut self, seconds: f64, servers: &[Watched]) -> Vec<String> {
        let now = self.started.elapsed().as_secs_f64();
        let each = self.progress.iter_mut().zip(servers).map(|(progress, server)| {
            let sources = server.status.as_ref().map_or(&[][..], |status| &status.sources);
            progress.note(now, sources);
            format!(
                "{seconds:6.1} s  {}  {} routes sent by zebra  {} taken  {}",
                server.name,
                grouped(progress.sent),
                grouped(progress.taken),
                sources.first().map_or("", |source| &source.state),
            )
        });
        each.collect()
    }

    /// How long FRR took, and we behind it. An error where a server was ready before it had all routes.
    pub fn summary(&self, routes: u64) -> Result<Vec<String>, String> {
        let each = HOSTS.iter().zip(&self.progress).map(|(host, progress)| {
            if progress.sent != routes {
                return Err(format!("{host} was ready when zebra had sent {} of {routes} routes", progress.sent));
            }
            Ok(format!(
                "{host}: zebra sent {} routes in {:.1} s; the last of them was in the server's table {:.1} s later",
                grouped(progress.sent),
                progress.last_s - progress.first_s.unwrap_or(0.0),
                (progress.taken_s - progress.last_s).max(0.0),
            ))
        });
        each.collect()
    }

    /// Tells the speaker when the first change is due (Unix time).
    pub fn begin_changes(&mut self, at: f64) -> Result<(), Failure> {
        self.speaker.tell(&format!("{at}\n"))
    }
}

/// `docs/frr/frr.conf` with one neighbor for both families, which dials. Its IPv6 next hops have no link-local address beside them, so no
/// route-map on the way in has to choose.
fn configuration(host: &str, own: &str, speaker: &str) -> String {
    format!(
        "frr defaults traditional\n\
         hostname {host}\n\
         fpm address 127.0.0.1 port 2620\n\
         no fpm use-next-hop-groups\n\
         router bgp 65000\n \
          bgp router-id {own}\n \
          no bgp ebgp-requires-policy\n \
          no bgp default ipv4-unicast\n \
          neighbor {speaker} remote-as 65001\n \
          neighbor {speaker} passive\n \
          address-family ipv4 unicast\n  \
           neighbor {speaker} activate\n  \
           neighbor {speaker} route-map NONE out\n \
          exit-address-family\n \
          address-family ipv6 unicast\n  \
           neighbor {speaker} activate\n  \
           neighbor {speaker} route-map NONE out\n \
          exit-address-family\n\
         route-map NONE deny 10\n"
    )
}

/// Why this machine cannot run FRR in namespaces, if it cannot.
pub fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("network namespaces need root: sudo make demo-frr".into());
    }
    let absent = ["zebra", "staticd", "bgpd"].into_iter().find(|name| find(name).is_none());
    absent.map(|name| format!("{name} of FRR is not installed; `scripts/setup interop` installs it"))
}
