//! Real FRR beside each route server: zebra, staticd and bgpd, one BGP speaker that feeds both bgpds, and the project's own helper that says
//! when FRR has converged. Everything that an operator would install stands in the same places; only the folders are the demo's.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fibcast_control::status::SourceStatus;

use crate::files::{LINKS, Layout};
use crate::network::{Network, address};
use crate::process::{OpenEnd, Process};
use crate::verdict::grouped;
use crate::watch::Watched;

/// Hosts with FRR, in the order of their addresses.
pub const HOSTS: [&str; 2] = ["rs-a", "rs-b"];
/// The host of the BGP speaker.
pub const SPEAKER: &str = "upstream";
/// All hosts, in the order of their addresses.
pub const ALL_HOSTS: [&str; 5] = ["rs-a", "rs-b", "nh-1", "nh-2", SPEAKER];

/// How long a daemon may take to answer.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(30);
/// For so long the numbers of routes must not change until FRR counts as converged: two FRRs share few cores, and pause while they load.
const SETTLE_S: u32 = 8;

/// What runs beside the route servers, and how far it is.
pub struct Frr {
    processes: Vec<Process>,
    player: Process,
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
    /// Starts everything. The route servers run already, so that zebra finds them.
    pub fn start(
        network: &Network,
        programs: &Path,
        packaging: &Path,
        layout: &Layout,
    ) -> Result<Frr, String> {
        let mut processes = Vec::new();
        let speaker = address(1 + ALL_HOSTS.iter().position(|host| *host == SPEAKER).unwrap_or(0));
        for (host, number) in HOSTS.into_iter().zip(1..) {
            let octet = number + 1;
            // Beside the addresses of the dataplane, which has the first of each subnet.
            let own = LINKS.iter().flat_map(|link| {
                [link.ipv4, link.ipv6].map(|text| text.replacen("1/", &format!("{octet}/"), 1))
            });
            let own: Vec<String> = own.collect();
            network.uplink(host, &own.iter().map(String::as_str).collect::<Vec<_>>())?;
            start_daemons(
                &mut processes,
                &network.namespace(host),
                layout,
                host,
                &address(number),
                &speaker,
            )?;
            let helper = packaging.join("frr/fibcast-sentinel");
            let folder = layout.path(&format!("frr-{host}"));
            let settle = SETTLE_S.to_string();
            let arguments = ["--watch", "--settle", &settle, "--vty_socket", &folder].map(str::to_owned);
            let name = format!("sentinel-{host}");
            processes.push(Process::start(
                &name,
                &helper,
                &arguments,
                &layout.folder,
                Some(&network.namespace(host)),
                OpenEnd::Input,
            )?);
        }
        let mut arguments = vec!["--table".into(), layout.path("table.mrt")];
        arguments.extend(["--updates".into(), layout.path("updates.mrt")]);
        for number in 1..=HOSTS.len() {
            arguments.extend(["--neighbor".into(), address(number)]);
        }
        let player = Process::start(
            "player",
            &programs.join("fibcast-bgp-player"),
            &arguments,
            &layout.folder,
            Some(&network.namespace(SPEAKER)),
            OpenEnd::Input,
        )?;
        Ok(Frr { processes, player, started: Instant::now(), progress: Default::default() })
    }

    /// An error if something has ended.
    pub fn check(&mut self) -> Result<(), String> {
        self.player.check()?;
        self.processes.iter_mut().try_for_each(Process::check)
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
    pub fn begin_changes(&mut self, at: f64) -> Result<(), String> {
        self.player.tell(&format!("{at}\n"))
    }
}

impl Drop for Frr {
    /// At once: in order, each zebra would take a million routes out of a kernel table that goes away in a moment.
    fn drop(&mut self) {
        self.processes.iter_mut().for_each(Process::kill);
    }
}

fn start_daemons(
    processes: &mut Vec<Process>,
    namespace: &str,
    layout: &Layout,
    host: &str,
    own: &str,
    speaker: &str,
) -> Result<(), String> {
    let folder = layout.folder.join(format!("frr-{host}"));
    let failed = |what: &str, error: std::io::Error| format!("{host}: {what}: {error}");
    std::fs::create_dir_all(&folder).map_err(|error| failed("folder", error))?;
    let file = |name: &str| folder.join(name).display().to_string();
    // Daemons of FRR run as a user of their own, who must be able to get there.
    run("chmod", &["755", &layout.folder.display().to_string()])?;
    run("chown", &["frr:frr", &folder.display().to_string()])?;
    for (name, text) in [("frr.conf", configuration(host, own, speaker)), ("vtysh.conf", String::new())] {
        std::fs::write(folder.join(name), text).map_err(|error| failed(name, error))?;
    }
    for daemon in ["zebra", "staticd", "bgpd"] {
        std::fs::write(folder.join(format!("{daemon}.conf")), "").map_err(|error| failed(daemon, error))?;
        let log = format!("file:{}", file(&format!("{daemon}.log")));
        let mut arguments: Vec<String> = Vec::new();
        for (option, value) in [
            ("-i", file(&format!("{daemon}.pid"))),
            ("-z", file("zserv.api")),
            ("-f", file(&format!("{daemon}.conf"))),
            ("-P", "0".to_owned()),
            ("--vty_socket", folder.display().to_string()),
            ("--log", log),
            ("--log-level", "warnings".to_owned()),
        ] {
            arguments.extend([option.to_owned(), value]);
        }
        if daemon == "zebra" {
            // As docs/frr.md says for /etc/frr/daemons.
            arguments.extend(["-M", "dplane_fpm_nl", "-s", "90000000", "-K", "120"].map(str::to_owned));
        }
        let name = format!("{daemon}-{host}");
        let program = Path::new("/usr/lib/frr").join(daemon);
        let mut process =
            Process::start(&name, &program, &arguments, &layout.folder, Some(namespace), OpenEnd::Input)?;
        wait_for(&folder.join(format!("{daemon}.vty")), &mut process)?;
        processes.push(process);
    }
    let folder = folder.display().to_string();
    let vtysh = ["netns", "exec", namespace, "vtysh", "--vty_socket", &folder, "--config_dir", &folder, "-b"];
    run("ip", &vtysh)
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

fn wait_for(socket: &Path, process: &mut Process) -> Result<(), String> {
    let deadline = Instant::now() + SOCKET_TIMEOUT;
    while !socket.exists() {
        process.check()?;
        if Instant::now() > deadline {
            return Err(format!("{}: not there after {} s", socket.display(), SOCKET_TIMEOUT.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let output = [&output.stdout[..], &output.stderr[..]].concat();
    Err(format!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output).trim()))
}

/// Why this machine cannot run FRR in namespaces, if it cannot.
pub fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("network namespaces need root: sudo make demo-frr".into());
    }
    let absent =
        ["zebra", "staticd", "bgpd"].iter().find(|name| !Path::new("/usr/lib/frr").join(name).exists());
    absent.map(|name| format!("{name} of FRR is not in /usr/lib/frr; `scripts/setup interop` installs it"))
}
