//! Kinds of ICMP messages that the router itself sends: what limits and counters tell apart.

/// Kinds of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Destination unreachable, about a forwarded packet.
    Unreachable,
    /// Fragmentation needed (RFC 1191 §4), packet too big (RFC 4443 §3.2).
    TooBig,
    /// Time exceeded.
    TimeExceeded,
    /// Parameter problem.
    ParameterProblem,
    /// Port or protocol unreachable: nothing listens at an own address.
    PortUnreachable,
    /// Echo reply.
    EchoReply,
}

impl Kind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Kind; 6] = [
        Kind::Unreachable,
        Kind::TooBig,
        Kind::TimeExceeded,
        Kind::ParameterProblem,
        Kind::PortUnreachable,
        Kind::EchoReply,
    ];

    /// Number of kinds.
    pub const COUNT: usize = Kind::ALL.len();

    /// The name in `[icmp]` and shown to operators.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Unreachable => "unreachable",
            Kind::TooBig => "too_big",
            Kind::TimeExceeded => "time_exceeded",
            Kind::ParameterProblem => "parameter_problem",
            Kind::PortUnreachable => "port_unreachable",
            Kind::EchoReply => "echo_reply",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_place() {
        assert!(Kind::ALL.iter().enumerate().all(|(place, kind)| *kind as usize == place));
    }
}
