//! Drop reasons: one enum for the whole router, with the names that operators see.

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// Why a packet was dropped.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Reason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Reason {
            /// All reasons, in the order of their numbers.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant),+];

            /// The name shown to operators: lower case, with underscores.
            pub fn name(self) -> &'static str {
                match self {
                    $(Reason::$variant => $name,)+
                }
            }
        }
    };
}

reasons! {
    /// Shorter than an Ethernet header.
    ShortFrame = "short_frame",
    /// The Ethernet header is all zero: the device reported a frame that it did not write (DMA does not reach the buffers).
    ZeroFrame = "zero_frame",
    /// The frame is for another station's MAC address.
    OtherHost = "other_host",
    /// Neither IPv4 nor IPv6 nor ARP.
    UnknownEthertype = "unknown_ethertype",
    /// RFC 1812 §5.2.2 (1): fewer bytes than an IPv4 header; the same for IPv6.
    ShortPacket = "short_packet",
    /// RFC 1812 §5.2.2 (2): wrong header checksum.
    BadChecksum = "bad_checksum",
    /// RFC 1812 §5.2.2 (3): the version does not fit the EtherType; the same for IPv6.
    BadVersion = "bad_version",
    /// RFC 1812 §5.2.2 (4): header length below 20 bytes.
    BadHeaderLength = "bad_header_length",
    /// RFC 1812 §5.2.2 (5): total length beyond the frame or below the header; IPv6 payload length beyond the frame.
    BadLength = "bad_length",
    /// RFC 791 §3.1: a fragment that ends beyond 65,535 bytes, the longest packet.
    BadFragment = "bad_fragment",
    /// RFC 1812 §5.3.7, RFC 4291 §2.5.2, §2.5.3, §2.7: a martian source address.
    MartianSource = "martian_source",
    /// RFC 1812 §5.3.7: a martian destination address, or a limited broadcast.
    MartianDestination = "martian_destination",
    /// RFC 1812 §5.3.4: a unicast packet in a link-layer broadcast.
    LinkBroadcast = "link_broadcast",
    /// To a multicast group: multicast is not routed.
    Multicast = "multicast",
    /// RFC 4291 §2.5.6, RFC 3927 §7: a link-local source, or an IPv4 link-local destination, would have to be forwarded.
    LinkLocal = "link_local",
    /// RFC 1812 §5.3.1, RFC 8200 §3: the time to live or hop limit expired.
    TtlExceeded = "ttl_exceeded",
    /// No route covers the destination.
    NoRoute = "no_route",
    /// Blackhole route.
    Blackhole = "blackhole",
    /// Unreachable route.
    Unreachable = "unreachable",
    /// Prohibit route.
    Prohibited = "prohibited",
    /// Displaced by a newer packet while waiting for the next hop's MAC address (RFC 1122 §2.3.2.2, RFC 4861 §7.2.2).
    HoldFull = "hold_full",
    /// The next hop did not answer ARP or ND while the packet waited for it.
    NeighborUnreachable = "neighbor_unreachable",
    /// Larger than the MTU of the outgoing link, and must not be fragmented.
    TooBig = "too_big",
    /// RFC 1812 §5.2.4.1: a source route option; such packets are refused.
    SourceRoute = "source_route",
    /// RFC 791 §3.1: an option with an invalid length or pointer.
    BadOption = "bad_option",
    /// RFC 3704: the route back to the source does not leave by the port of arrival (strict), or there is none (loose).
    ReversePath = "reverse_path",
    /// IEEE 802.1Q: no sub-interface of the port has this VLAN.
    UnknownVlan = "unknown_vlan",
    /// No packet buffer was available.
    NoBuffer = "no_buffer",
    /// It needs fragmentation, but is longer than any IPv4 packet.
    Oversized = "oversized",
    /// The route points to a port that does not exist.
    UnknownPort = "unknown_port",
    /// The device took no more packets, and the transmit backlog was full.
    TxFull = "tx_full",
    /// For the router itself, whose ring was full.
    HostFull = "host_full",
    /// For the router itself, but larger than the largest MTU.
    HostTooBig = "host_too_big",
    /// Software RSS: the ring of the flow's worker was full.
    SpreadFull = "spread_full",
    /// Waited in a transmit queue when the worker stopped.
    Stopped = "stopped",
}

impl Reason {
    /// Number of reasons.
    pub const COUNT: usize = Reason::ALL.len();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_place_and_a_name_of_its_own() {
        let mut names: Vec<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        assert!(Reason::ALL.iter().enumerate().all(|(index, reason)| *reason as usize == index));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Reason::COUNT);
    }
}
