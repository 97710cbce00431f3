//! Writes MRT records: a table as TABLE_DUMP_V2, updates as BGP4MP_ET (RFC 6396).

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

/// AS number of the collector and its peers in written files: private use (RFC 6996).
const PRIVATE_AS: u32 = 64_512;
/// Largest BGP message (RFC 4271 §4.1).
const MAX_MESSAGE: usize = 4096;
/// Bytes for prefixes in an UPDATE: the message minus header, lengths and the largest attributes written here.
const MAX_NLRI: usize = MAX_MESSAGE - 128;

/// Writes one MRT file. The caller buffers (and compresses) and flushes.
pub struct Writer<W: Write> {
    out: W,
    /// The next RIB entry's sequence number.
    sequence: u32,
    record: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Starts a file on `out`.
    pub fn new(out: W) -> Self {
        Self { out, sequence: 0, record: Vec::new() }
    }

    /// Returns the underlying writer.
    pub fn into_inner(self) -> W {
        self.out
    }

    fn header(&mut self, seconds: u32, kind: u16, subtype: u16, len: usize) -> io::Result<()> {
        let too_long =
            |_| io::Error::new(io::ErrorKind::InvalidInput, "MRT record longer than its length field");
        let len = u32::try_from(len).map_err(too_long)?;
        let mut header = [0; 12];
        let (time, rest) = header.split_at_mut(4);
        time.copy_from_slice(&seconds.to_be_bytes());
        let (kinds, length) = rest.split_at_mut(4);
        kinds.copy_from_slice(&((u32::from(kind) << 16) | u32::from(subtype)).to_be_bytes());
        length.copy_from_slice(&len.to_be_bytes());
        self.out.write_all(&header)
    }

    /// Writes PEER_INDEX_TABLE with one peer: the first record of a table. Entries written later belong to this peer.
    ///
    /// # Errors
    /// The error of the underlying writer.
    pub fn peer_index(&mut self, seconds: u32, view: &str, peer: IpAddr) -> io::Result<()> {
        let view = view.as_bytes().get(..view.len().min(255)).unwrap_or_default();
        let mut body = vec![0, 0, 0, 0];
        body.extend((view.len() as u16).to_be_bytes());
        body.extend(view);
        body.extend(1u16.to_be_bytes());
        body.push(if peer.is_ipv6() { 3 } else { 2 });
        body.extend(Ipv4Addr::UNSPECIFIED.octets());
        put_address(&mut body, peer);
        body.extend(PRIVATE_AS.to_be_bytes());
        self.header(seconds, 13, 1, body.len())?;
        self.out.write_all(&body)
    }

    /// Writes RIB_IPV4_UNICAST or RIB_IPV6_UNICAST with one entry of the peer written first.
    ///
    /// # Errors
    /// The error of the underlying writer.
    pub fn rib(&mut self, seconds: u32, prefix: IpNet, next_hop: IpAddr) -> io::Result<()> {
        let mut body = std::mem::take(&mut self.record);
        body.clear();
        body.extend(self.sequence.to_be_bytes());
        self.sequence = self.sequence.wrapping_add(1);
        put_prefix(&mut body, prefix);
        body.extend(1u16.to_be_bytes());
        body.extend(0u16.to_be_bytes());
        body.extend(seconds.to_be_bytes());
        let len_at = body.len();
        body.extend([0, 0]);
        put_origin_and_path(&mut body);
        match (prefix, next_hop) {
            (IpNet::V4(_), IpAddr::V4(next_hop)) => put_next_hop(&mut body, next_hop),
            (_, next_hop) => {
                // RFC 6396 §4.3.4: length and next hop only.
                let len = if next_hop.is_ipv6() { 16 } else { 4 };
                body.extend([0x80, 14, len + 1, len]);
                put_address(&mut body, next_hop);
            }
        }
        set_u16(&mut body, len_at, len_at + 2);
        let subtype = if matches!(prefix, IpNet::V4(_)) { 2 } else { 4 };
        let done = self.header(seconds, 13, subtype, body.len()).and_then(|()| self.out.write_all(&body));
        self.record = body;
        done
    }

    /// Announces prefixes of one family with one next hop at one instant, in as few UPDATEs as possible.
    ///
    /// # Errors
    /// The error of the underlying writer, or `InvalidInput` for a time after the year 2106.
    pub fn announce(
        &mut self,
        time_us: u64,
        peer: IpAddr,
        next_hop: IpAddr,
        prefixes: &[IpNet],
    ) -> io::Result<()> {
        self.messages(time_us, peer, prefixes, |message, nlri, v6| {
            message.extend([0, 0]);
            let len_at = message.len();
            message.extend([0, 0]);
            put_origin_and_path(message);
            match next_hop {
                IpAddr::V4(next_hop) if !v6 => {
                    put_next_hop(message, next_hop);
                    set_u16(message, len_at, len_at + 2);
                    message.extend(nlri);
                }
                next_hop => {
                    message.extend([0x90, 14, 0, 0]);
                    let value_at = message.len();
                    message.extend([0, if v6 { 2 } else { 1 }, 1, if next_hop.is_ipv6() { 16 } else { 4 }]);
                    put_address(message, next_hop);
                    message.push(0);
                    message.extend(nlri);
                    set_u16(message, value_at - 2, value_at);
                    set_u16(message, len_at, len_at + 2);
                }
            }
        })
    }

    /// Withdraws prefixes of one family at one instant.
    ///
    /// # Errors
    /// The error of the underlying writer, or `InvalidInput` for a time after the year 2106.
    pub fn withdraw(&mut self, time_us: u64, peer: IpAddr, prefixes: &[IpNet]) -> io::Result<()> {
        self.messages(time_us, peer, prefixes, |message, nlri, v6| {
            let len_at = message.len();
            message.extend([0, 0]);
            if v6 {
                let attrs_at = message.len();
                message.extend([0, 0, 0x90, 15, 0, 0]);
                let value_at = message.len();
                message.extend([0, 2, 1]);
                message.extend(nlri);
                set_u16(message, value_at - 2, value_at);
                set_u16(message, attrs_at, attrs_at + 2);
            } else {
                message.extend(nlri);
                set_u16(message, len_at, len_at + 2);
                message.extend([0, 0]);
            }
        })
    }

    /// Writes one BGP4MP_ET MESSAGE_AS4 for each run of prefixes that fits an UPDATE and has one family.
    fn messages(
        &mut self,
        time_us: u64,
        peer: IpAddr,
        prefixes: &[IpNet],
        update: impl Fn(&mut Vec<u8>, &[u8], bool),
    ) -> io::Result<()> {
        let mut nlri = Vec::new();
        let mut left = prefixes.iter().peekable();
        while let Some(first) = left.peek() {
            let v6 = matches!(first, IpNet::V6(_));
            nlri.clear();
            while let Some(prefix) =
                left.next_if(|p| nlri.len() + 17 <= MAX_NLRI && matches!(p, IpNet::V6(_)) == v6)
            {
                put_prefix(&mut nlri, *prefix);
            }
            self.message(time_us, peer, |message| update(message, &nlri, v6))?;
        }
        Ok(())
    }

    fn message(&mut self, time_us: u64, peer: IpAddr, update: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let late = |_| io::Error::new(io::ErrorKind::InvalidInput, "time past the year 2106");
        let seconds = u32::try_from(time_us / 1_000_000).map_err(late)?;
        let mut body = std::mem::take(&mut self.record);
        body.clear();
        body.extend(((time_us % 1_000_000) as u32).to_be_bytes());
        body.extend(PRIVATE_AS.to_be_bytes());
        body.extend(PRIVATE_AS.to_be_bytes());
        body.extend([0, 0, 0, if peer.is_ipv6() { 2 } else { 1 }]);
        put_address(&mut body, peer);
        put_address(&mut body, peer);
        let message_at = body.len();
        body.extend([0xff; 16]);
        body.extend([0, 0, 2]);
        update(&mut body);
        set_u16(&mut body, message_at + 16, message_at);
        let done = self.header(seconds, 17, 4, body.len()).and_then(|()| self.out.write_all(&body));
        self.record = body;
        done
    }
}

/// Sets the two bytes at `at` to the number of bytes from `from` to the end.
fn set_u16(body: &mut [u8], at: usize, from: usize) {
    let len = (body.len() - from) as u16;
    if let Some(field) = body.get_mut(at..at + 2) {
        field.copy_from_slice(&len.to_be_bytes());
    }
}

fn put_address(to: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(a) => to.extend(a.octets()),
        IpAddr::V6(a) => to.extend(a.octets()),
    }
}

fn put_prefix(to: &mut Vec<u8>, prefix: IpNet) {
    to.push(prefix.prefix_len());
    let used = usize::from(prefix.prefix_len()).div_ceil(8);
    match prefix {
        IpNet::V4(p) => to.extend(p.network().octets().iter().take(used)),
        IpNet::V6(p) => to.extend(p.network().octets().iter().take(used)),
    }
}

/// ORIGIN IGP and an empty AS_PATH: mandatory (RFC 4271 §5), but without meaning here.
fn put_origin_and_path(to: &mut Vec<u8>) {
    to.extend([0x40, 1, 1, 0, 0x40, 2, 0]);
}

fn put_next_hop(to: &mut Vec<u8>, next_hop: Ipv4Addr) {
    to.extend([0x40, 3, 4]);
    to.extend(next_hop.octets());
}
