//! Forwarding trie, next-hop groups, generations and their publisher.
