//! The key of the digests of all tables.

use fibcast_sync_proto::digest::DigestKey;
use fibcast_sync_proto::node::ClientRequest;

use super::Engine;

impl Engine {
    /// The same with another digest key. Only before the first event.
    #[must_use]
    pub fn with_digest_key(mut self, key: DigestKey) -> Self {
        self.rekey(key);
        // Its clients do not exist yet.
        self.requests.clear();
        self
    }

    /// Sets the key of all tables' digests, under new epochs, and compares them with the peers' over new connections. Routes and selection
    /// are not affected.
    pub fn rekey(&mut self, key: DigestKey) {
        let mut next = self.next_epoch;
        let mut epoch = || {
            let this = next;
            next = next.wrapping_add(1).max(1);
            this
        };
        self.fib.rekey(key, epoch());
        self.nothing.rekey(key, epoch());
        self.origins.catalog_mut().rekey(key, epoch());
        let own = self.sources.iter_mut().map(|source| &mut source.table);
        let of_peers = self.peers.iter_mut().map(|peer| &mut peer.catalog);
        let of_remotes = self.remotes.values_mut().map(|remote| &mut remote.table);
        own.chain(of_peers).chain(of_remotes).for_each(|table| table.rekey(key, epoch()));
        self.next_epoch = next;
        self.client.digest_key = key.id();
        self.announce = true;
        let catalogs = self.upstream().into_iter().enumerate();
        self.requests.extend(catalogs.map(|(client, (config, servers))| ClientRequest {
            client,
            config,
            servers,
        }));
        let remotes: Vec<_> = self.remotes.keys().copied().collect();
        remotes.into_iter().for_each(|id| self.ask(id));
    }
}
