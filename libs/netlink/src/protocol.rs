//! Names of `rtm_protocol`: who made a route.

/// `RTPROT_KERNEL`: the kernel itself, for the subnets and addresses of interfaces.
pub const KERNEL: u8 = 2;

/// The name in `/etc/iproute2/rt_protos` (`linux/rtnetlink.h`), which `ip route` shows and takes; a number where there is none.
pub fn protocol_name(protocol: u8) -> String {
    let name = match protocol {
        0 => "unspec",
        1 => "redirect",
        KERNEL => "kernel",
        3 => "boot",
        4 => "static",
        8 => "gated",
        9 => "ra",
        10 => "mrt",
        11 => "zebra",
        12 => "bird",
        13 => "dnrouted",
        14 => "xorp",
        15 => "ntk",
        16 => "dhcp",
        18 => "keepalived",
        42 => "babel",
        186 => "bgp",
        187 => "isis",
        188 => "ospf",
        189 => "rip",
        192 => "eigrp",
        number => return number.to_string(),
    };
    name.to_owned()
}
