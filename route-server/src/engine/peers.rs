//! Catalogs of the route servers that this server is registered with.

use std::time::Duration;

use fibcast_sync_proto::ChangeRef;
use fibcast_sync_proto::client::Client;
use fibcast_sync_proto::origins::OriginState;

use super::{Engine, EngineError, PRESENCE, rib_error};

impl Engine {
    /// The catalog of a peer has a new commit.
    pub(super) fn catalog_changed(&mut self, now: Duration, at: usize) -> Result<(), EngineError> {
        let Some(peer) = self.peers.get_mut(at) else { return Ok(()) };
        let serial = peer.catalog.serial();
        let (mut origins, mut opaque) = (Vec::new(), Vec::new());
        for change in peer.catalog.changes_since(peer.known).into_iter().flat_map(|batch| batch.changes()) {
            match change {
                ChangeRef::Opaque { key, value: Some(value) } => opaque.push((key.into(), value.into())),
                ChangeRef::Origin { value: Some(value), .. } => origins.push(value.clone()),
                // What was removed there ends here with its lease.
                _ => {}
            }
        }
        peer.known = serial;
        peer.catalog.pin(serial);
        for value in origins {
            self.origins.heard(now, &value).map_err(rib_error)?;
        }
        crate::kv::merge(self.origins.catalog_mut(), &mut self.fib, opaque).map_err(rib_error)
    }

    pub(super) fn watch_peer(&mut self, at: usize, client: &Client) {
        let Some(peer) = self.peers.get_mut(at) else { return };
        let synced = client.is_synced();
        if synced && !peer.synced {
            let name = peer.name.as_deref().unwrap_or("?");
            tracing::info!(
                "peer {} ({name}): in sync, {} origins",
                peer.address,
                peer.catalog.counts().origins
            );
        }
        peer.synced = synced;
        peer.synced_once |= synced;
    }

    /// The server at an address has sent its name.
    pub(super) fn peer_named(&mut self, at: usize, name: &str) {
        if let Some(peer) = self.peers.get_mut(at) {
            peer.name = Some(name.to_owned());
        }
        self.prefer(at, name);
    }

    /// What readiness still waits for, as text.
    pub(super) fn missing(&self) -> impl Iterator<Item = String> + '_ {
        let peers = self.peers.iter().filter(|p| !p.synced_once).map(|p| format!("peer {}", p.address));
        let origins = self.origins.others().filter_map(|(id, value, state)| {
            let is_in = self.remotes.get(&id).is_some_and(|other| other.synced_once);
            match state {
                OriginState::Loading { .. } if value.name == PRESENCE => {
                    Some(format!("the peers of {}", value.server))
                }
                OriginState::Loading { .. } => Some(format!("origin {:?} of {}", value.name, value.server)),
                OriginState::Live { .. } if value.name != PRESENCE && !is_in => {
                    Some(format!("the routes of origin {:?} of {}", value.name, value.server))
                }
                _ => None,
            }
        });
        peers.chain(origins)
    }
}
