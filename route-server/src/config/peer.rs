//! `[[peer]]`: the other route servers.

use std::net::SocketAddr;

use fibcast_daemon::config::{ConfigError, Loaded, Step};
use fibcast_daemon::sections::{Node, Tls};
use serde::Deserialize;

/// `[[peer]]`: a route server that this one registers with.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerKeys {
    /// `host:port`; a name is resolved at each connection.
    pub address: String,
    /// Only `primary`: each peer has origins of its own, so there is no standby among them.
    #[serde(default = "primary")]
    pub role: String,
}

fn primary() -> String {
    "primary".to_owned()
}

/// Everything that can be found wrong without a connection.
pub(super) fn check<T>(
    loaded: &Loaded<T>,
    peers: &[PeerKeys],
    node: &Node,
    tls: &Tls,
) -> Result<(), ConfigError> {
    for (at, peer) in peers.iter().enumerate() {
        let key = |name| [Step::Key("peer"), Step::At(at), Step::Key(name)];
        if peer.role != "primary" {
            let reason =
                "expected \"primary\": each peer has its own origins, so none is the standby of another";
            return Err(loaded.error(&key("role"), reason));
        }
        let port = peer.address.rsplit_once(':').filter(|(host, _)| !host.is_empty());
        if port.is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
            return Err(
                loaded.error(&key("address"), format!("expected host:port, found {:?}", peer.address))
            );
        }
        // A name may resolve to any machine.
        let named = peer.address.parse::<SocketAddr>().is_err() && !peer.address.starts_with("localhost:");
        if named && !tls.insecure && !tls.is_on() {
            let reason =
                "a name may resolve beyond loopback: expected cert, key and ca in [tls], or insecure = true";
            return Err(loaded.error(&key("address"), reason));
        }
        if node.listen.iter().any(|own| own.to_string() == peer.address) {
            return Err(loaded.error(&key("address"), "is this server's own address"));
        }
        if peers.iter().take(at).any(|p| p.address == peer.address) {
            return Err(loaded.error(&key("address"), "this peer is already in the file"));
        }
    }
    Ok(())
}
