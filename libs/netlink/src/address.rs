//! `RTM_NEWADDR`: the addresses of interfaces.

use ipnet::IpNet;

use super::attribute::Attributes;
use super::bytes::u32_at;
use super::kind;
use super::message::Message;
use super::route::Family;
use super::writer::Writer;

/// `struct ifaddrmsg`.
const HEADER: usize = 8;

const ADDRESS: u16 = 1;
const LOCAL: u16 = 2;

/// `IFA_F_NODAD`.
const NO_DETECTION: u8 = 2;
/// `IFA_F_DADFAILED` and `IFA_F_TENTATIVE`: not in use, or not yet.
const UNUSABLE: u8 = 0x08 | 0x40;

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// Number of the interface.
    pub interface: u32,
    /// The address and the length of its subnet's prefix.
    pub address: IpNet,
}

impl Address {
    /// Reads a message; none: it is about something else, or malformed.
    pub fn read(message: &Message<'_>) -> Option<Self> {
        if message.kind != kind::NEW_ADDRESS {
            return None;
        }
        let (length, interface) = (*message.body.get(1)?, u32_at(message.body, 4)?);
        let attributes = message.body.get(HEADER..)?;
        let all = || Attributes::new(attributes, message.body_at() + HEADER).flatten();
        // IPv6 has IFA_ADDRESS alone; of IPv4 that is the peer where there is one.
        let own = all().find(|a| a.kind == LOCAL).or_else(|| all().find(|a| a.kind == ADDRESS));
        Some(Self { interface, address: IpNet::new(own?.address().ok()?, length).ok()? })
    }

    /// The interface and the subnet of an address that is there (true) or gone (false); none: the message is about something else, or
    /// malformed.
    pub fn subnet(message: &Message<'_>) -> Option<(u32, IpNet, bool)> {
        let interface = Self::changed(message)?;
        let length = *message.body.get(1)?;
        let attributes = message.body.get(HEADER..)?;
        let mut all = Attributes::new(attributes, message.body_at() + HEADER).flatten();
        // IFA_ADDRESS: on a point-to-point link that is the peer, which is what can be reached there.
        let address = all.find(|a| a.kind == ADDRESS)?.address().ok()?;
        Some((interface, IpNet::new(address, length).ok()?.trunc(), message.kind == kind::NEW_ADDRESS))
    }

    /// The interface of which an address is there, changed or gone; none: the message is about something else, or malformed.
    pub fn changed(message: &Message<'_>) -> Option<u32> {
        matches!(message.kind, kind::NEW_ADDRESS | kind::DEL_ADDRESS).then(|| u32_at(message.body, 4))?
    }

    /// Like [`read`](Self::read); none as well for an address that duplicate address detection refused or has not finished (RFC 4862 §5.4).
    pub fn read_usable(message: &Message<'_>) -> Option<Self> {
        let flags = *message.body.get(2)?;
        Self::read(message).filter(|_| flags & UNUSABLE == 0)
    }

    /// Writes one to be added, without duplicate address detection.
    pub fn write(&self, writer: &mut Writer, flags: u16, sequence: u32) {
        let own = self.address.addr();
        let [a, b, c, d] = self.interface.to_ne_bytes();
        let family = Family::of_address(own) as u8;
        let header = [family, self.address.prefix_len(), NO_DETECTION, 0, a, b, c, d];
        writer.begin(kind::NEW_ADDRESS, flags, sequence, &header);
        writer.address(LOCAL, own);
        writer.address(ADDRESS, own);
        writer.end();
    }

    /// Writes a request for all of them.
    pub fn dump(writer: &mut Writer, sequence: u32) {
        writer.dump(kind::GET_ADDRESS, sequence, &[0; HEADER]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Messages;

    #[test]
    fn what_is_written_is_what_is_read() {
        for address in ["192.0.2.1/24", "2001:db8::1/64"] {
            let address = Address { interface: 7, address: address.parse().unwrap() };
            let mut writer = Writer::default();
            address.write(&mut writer, 0, 1);
            let message = Messages::new(writer.bytes()).next().unwrap().unwrap();
            assert_eq!(Address::read(&message), Some(address));
            assert_eq!(
                (Address::read_usable(&message), Address::changed(&message)),
                (Some(address), Some(7))
            );
        }
    }

    #[test]
    fn an_address_in_duplicate_address_detection_is_not_usable() {
        for flag in [0x08, 0x40] {
            let header = [Family::Ipv6 as u8, 64, flag, 0, 7, 0, 0, 0];
            for (kind, read) in [(kind::NEW_ADDRESS, true), (kind::DEL_ADDRESS, false)] {
                let mut writer = Writer::default();
                writer.begin(kind, 0, 1, &header);
                writer.address(ADDRESS, "2001:db8::1".parse().unwrap());
                writer.end();
                let message = Messages::new(writer.bytes()).next().unwrap().unwrap();
                assert_eq!((Address::read_usable(&message), Address::read(&message).is_some()), (None, read));
                assert!(Address::changed(&message).is_some());
            }
        }
    }
}
