//! What a message says about a neighbor.

use crate::packet::ethernet::Mac;

/// A station's statement about an address on its link: the relevant parts of an ARP or ND message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evidence {
    /// The MAC address; none if the message carries no link-layer address.
    pub mac: Option<Mac>,
    /// It answers a request, so the way to the station and back works (S flag of RFC 4861 §4.4).
    pub solicited: bool,
    /// It replaces a known MAC address (O flag).
    pub overrides: bool,
    /// It makes an unknown station a neighbor.
    pub creates: bool,
}

impl Evidence {
    /// A request to this router (RFC 826, RFC 4861 §7.2.3): the station is known from now on, but the way to it is not confirmed.
    pub fn request(mac: Mac) -> Evidence {
        Evidence { mac: Some(mac), solicited: false, overrides: true, creates: true }
    }

    /// An ARP reply to this router.
    pub fn reply(mac: Mac) -> Evidence {
        Evidence { mac: Some(mac), solicited: true, overrides: true, creates: false }
    }

    /// An ARP packet to others, as a gratuitous one is (RFC 5227 §2.3): it changes known neighbors.
    pub fn gratuitous(mac: Mac) -> Evidence {
        Evidence { mac: Some(mac), solicited: false, overrides: true, creates: false }
    }

    /// A neighbor advertisement with its flags (RFC 4861 §7.2.5: it never creates an entry).
    pub fn advertisement(mac: Option<Mac>, solicited: bool, overrides: bool) -> Evidence {
        Evidence { mac, solicited, overrides, creates: false }
    }
}
