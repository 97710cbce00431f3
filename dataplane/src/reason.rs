//! Why a packet was dropped: one enum for the whole router, with the names that operators see.

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

            /// As shown: lower case, with underscores.
            pub fn name(self) -> &'static str {
                match self {
                    $(Reason::$variant => $name,)+
                }
            }
        }
    };
}

reasons! {
    /// Fewer bytes than an Ethernet header.
    ShortFrame = "short_frame",
    /// The Ethernet header is all zeros: the device reported a frame and did not write it (DMA does not reach the buffers).
    ZeroFrame = "zero_frame",
    /// The frame is for another station's MAC address.
    OtherStation = "other_station",
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
    /// RFC 1812 §5.3.7, RFC 4291 §2.5.2, §2.5.3, §2.7: a source address that no packet on a wire may have.
    MartianSource = "martian_source",
    /// RFC 1812 §5.3.7: a destination address that no packet on a wire may have, or a limited broadcast.
    MartianDestination = "martian_destination",
    /// RFC 1812 §5.3.4: sent to all stations of the link, but to one address.
    LinkBroadcast = "link_broadcast",
    /// To a multicast group: there is no multicast routing.
    Multicast = "multicast",
    /// RFC 4291 §2.5.6, RFC 3927 §7: a link-local source address, or an IPv4 destination of that kind, that would have to be forwarded.
    LinkLocal = "link_local",
    /// RFC 1812 §5.3.1, RFC 8200 §3: the time to live or hop limit is used up.
    TtlExceeded = "ttl_exceeded",
    /// No route covers the destination.
    NoRoute = "no_route",
    /// The route says to drop in silence.
    Blackhole = "blackhole",
    /// The route says unreachable.
    Unreachable = "unreachable",
    /// The route says prohibited.
    Prohibited = "prohibited",
    /// Waited for the next hop's MAC address when newer packets took its place (RFC 1122 §2.3.2.2, RFC 4861 §7.2.2).
    HoldFull = "hold_full",
    /// The next hop did not answer ARP or ND while the packet waited for it.
    NeighborUnreachable = "neighbor_unreachable",
    /// Larger than the MTU of the outgoing link, and not to be fragmented on the way.
    TooBig = "too_big",
    /// RFC 1812 §5.2.4.1: a source route option; such packets are refused.
    SourceRoute = "source_route",
    /// RFC 791 §3.1: an option whose length or pointer cannot be.
    BadOption = "bad_option",
    /// RFC 3704: the way back to the source is not by the port of arrival (strict), or there is none (loose).
    ReversePath = "reverse_path",
    /// IEEE 802.1Q: a tag that no sub-interface of the port has.
    UnknownVlan = "unknown_vlan",
    /// There was no packet buffer for what the router had to make of it.
    NoBuffer = "no_buffer",
    /// It must be cut to fit its way out, but is itself beyond the MTU of the port that it came by, in several packet buffers.
    Oversized = "oversized",
    /// The route leads out of a port that does not exist.
    UnknownPort = "unknown_port",
    /// The device took no more packets, and the buffer in front of it was full.
    TxFull = "tx_full",
    /// For the router itself, which did not keep up.
    HostFull = "host_full",
    /// For the router itself, but larger than it takes, or in several buffers.
    HostTooBig = "host_too_big",
    /// For another worker, by its flow, whose ring was full.
    SpreadFull = "spread_full",
    /// Waited for room in a transmit queue when the worker stopped.
    Stopped = "stopped",
}

impl Reason {
    /// How many there are.
    pub const COUNT: usize = Reason::ALL.len();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_place_and_a_name_of_its_own() {
        let mut names: Vec<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        assert!(Reason::ALL.iter().enumerate().all(|(place, reason)| *reason as usize == place));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Reason::COUNT);
    }
}
