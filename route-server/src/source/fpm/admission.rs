//! Who may connect as zebra: users of this host by the owner of their socket, other hosts by their address.

use std::net::{IpAddr, SocketAddr};

use fibcast_netlink::socket_owner;

/// The configured permissions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Admission {
    /// Users of this host, by id.
    pub users: Vec<u32>,
    /// Addresses of other hosts, or of this one beyond loopback.
    pub allow: Vec<IpAddr>,
}

/// Why a peer may not connect.
#[derive(Debug, thiserror::Error)]
pub enum NotAdmitted {
    /// Its address is not listed.
    #[error("address {0} is not in `allow`")]
    Address(IpAddr),
    /// Its user is not listed.
    #[error("user id {0} is not in `users`")]
    User(u32),
    /// It comes from a loopback address, and no process of this host has its socket any more.
    #[error("the owner of its socket is unknown: closed already")]
    Nobody,
    /// The kernel does not say.
    #[error("the owner of its socket is unknown: {0}; does the kernel have the module tcp_diag?")]
    Unknown(std::io::Error),
}

impl Admission {
    /// Checks the peer of a connection accepted at `local`. Returns what is known of it, for the log.
    ///
    /// # Errors
    /// [`NotAdmitted`] with what is missing.
    pub fn check(&self, peer: SocketAddr, local: SocketAddr) -> Result<String, NotAdmitted> {
        self.judge(peer, socket_owner(peer, local))
    }

    fn judge(&self, peer: SocketAddr, owner: std::io::Result<Option<u32>>) -> Result<String, NotAdmitted> {
        let address = peer.ip().to_canonical();
        if !address.is_loopback() && !self.allow.contains(&address) {
            return Err(NotAdmitted::Address(address));
        }
        match owner {
            Ok(Some(user)) if self.users.contains(&user) => Ok(format!("user id {user}")),
            // Also from another address of this host: whoever is on it must be one of these users.
            Ok(Some(user)) => Err(NotAdmitted::User(user)),
            Ok(None) | Err(_) if !address.is_loopback() => Ok("another host".to_owned()),
            Ok(None) => Err(NotAdmitted::Nobody),
            Err(error) => Err(NotAdmitted::Unknown(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRR: u32 = 104;

    fn judge(peer: &str, owner: Option<u32>) -> String {
        let allow = vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        let admission = Admission { users: vec![0, FRR], allow };
        match admission.judge(peer.parse().unwrap(), Ok(owner)) {
            Ok(who) => who,
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn on_loopback_the_owner_of_the_socket_decides() {
        for peer in ["127.0.0.1:9", "127.9.9.9:9", "[::1]:9", "[::ffff:127.0.0.1]:9"] {
            assert_eq!(judge(peer, Some(FRR)), "user id 104");
            assert_eq!(judge(peer, Some(65_534)), "user id 65534 is not in `users`");
            assert_eq!(judge(peer, None), "the owner of its socket is unknown: closed already");
        }
        let admission = Admission { users: vec![0], allow: Vec::new() };
        let unknown =
            admission.judge("127.0.0.1:9".parse().unwrap(), Err(std::io::ErrorKind::Unsupported.into()));
        assert!(matches!(unknown, Err(NotAdmitted::Unknown(_))));
    }

    #[test]
    fn elsewhere_the_address_decides_and_a_user_of_this_host_gains_nothing_by_it() {
        for peer in ["192.0.2.1:9", "[::ffff:192.0.2.1]:9", "[2001:db8::1]:9"] {
            assert_eq!(judge(peer, None), "another host");
            assert_eq!(judge(peer, Some(0)), "user id 0");
            assert_eq!(judge(peer, Some(1000)), "user id 1000 is not in `users`");
        }
        assert_eq!(judge("192.0.2.2:9", Some(0)), "address 192.0.2.2 is not in `allow`");
        assert_eq!(judge("[2001:db8::2]:9", None), "address 2001:db8::2 is not in `allow`");
    }
}
