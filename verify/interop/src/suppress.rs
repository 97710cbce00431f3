//! FRR that announces a route when the hosts forward by it: `bgp suppress-fib-pending` between two neighbors, as `docs/frr.md` says.

use crate::{Lab, project};

/// Releases of FRR that read acknowledgements: see docs/frr.md.
const READ_BY: [&str; 4] = ["frr-10.4", "frr-10.5", "frr-10.6", "frr-10.7"];

/// A laboratory where FRR reads acknowledgements; none, with a line that says why, elsewhere.
pub fn suppress_lab(programs: &[&str]) -> Option<Lab> {
    let routing = std::env::var("FIBCAST_ROUTING").unwrap_or_default();
    if !READ_BY.contains(&routing.as_str()) {
        let name = std::thread::current().name().unwrap_or("a test").to_owned();
        eprintln!("{name}: skipped: this FRR ignores acknowledgements; scripts/interop-release frr-10.7");
        return None;
    }
    Lab::new(programs)
}

/// FRR of the documentation with a neighbor 198.51.100.2 (AS 65002), to which it announces what the hosts forward by.
pub fn suppress_frr_conf() -> String {
    let neighbor = " no bgp default ipv4-unicast\n no bgp ebgp-requires-policy\n bgp suppress-fib-pending\n \
                    neighbor 198.51.100.2 remote-as 65002\n neighbor 198.51.100.2 timers connect 1\n";
    project("docs/frr/frr.conf").replace(" no bgp default ipv4-unicast\n", neighbor).replace(
        "  neighbor 192.0.2.2 activate\n",
        "  neighbor 192.0.2.2 activate\n  neighbor 198.51.100.2 activate\n",
    )
}

/// BIRD at 192.0.2.2 (AS 65001), which announces these prefixes to FRR.
pub fn announcing_bird_conf<P: AsRef<str>>(prefixes: &[P]) -> String {
    let routes: String =
        prefixes.iter().map(|prefix| format!(" route {} blackhole;", prefix.as_ref())).collect();
    format!(
        "router id 192.0.2.2;\nprotocol device {{}}\nprotocol static {{ ipv4;{routes} }}\n\
         protocol bgp v4 {{ local as 65001; neighbor 192.0.2.1 as 65000; ipv4 {{ import none; export all; next hop self; }}; }}\n"
    )
}
