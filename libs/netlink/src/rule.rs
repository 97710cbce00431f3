//! `RTM_NEWRULE` and `RTM_DELRULE`: policy rules (ip-rule(8)) of one shape, from one address into a table.

use std::net::IpAddr;

use super::attribute::Attributes;
use super::kind;
use super::message::Message;
use super::route::Family;
use super::writer::Writer;

/// `struct fib_rule_hdr`.
const HEADER: usize = 12;
/// `FR_ACT_TO_TBL`.
const TO_TABLE: u8 = 1;

const SOURCE: u16 = 2;
const PRIORITY: u16 = 6;
const SUPPRESS_PREFIX_LENGTH: u16 = 14;
const TABLE: u16 = 15;
const PROTOCOL: u16 = 21;

/// A rule: packets from one address ask a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Source of the packets.
    pub source: IpAddr,
    /// The table.
    pub table: u32,
    /// Rules with smaller ones are asked first.
    pub priority: u32,
    /// Who made it; 0: nobody says.
    pub protocol: u8,
}

impl Rule {
    /// Reads a message; none: the rule is of another shape, or malformed.
    pub fn read(message: &Message<'_>) -> Option<Self> {
        let (header, attributes) = message.body.split_at_checked(HEADER)?;
        let &[_, destination, length, tos, _, _, _, action, ..] = header else { return None };
        if (destination, tos, action) != (0, 0, TO_TABLE) {
            return None;
        }
        let (mut source, mut table, mut priority, mut protocol) = (None, None, 0, 0);
        for attribute in Attributes::new(attributes, message.body_at() + HEADER) {
            let attribute = attribute.ok()?;
            match attribute.kind {
                SOURCE => source = attribute.address().ok(),
                TABLE => table = attribute.number().ok(),
                PRIORITY => priority = attribute.number().ok()?,
                PROTOCOL => protocol = attribute.value.first().copied()?,
                // In every dump: all ones where it is not in use.
                SUPPRESS_PREFIX_LENGTH if attribute.number() == Ok(u32::MAX) => {}
                _ => return None,
            }
        }
        let source = source.filter(|source| length == Family::of_address(*source).bits())?;
        Some(Self { source, table: table?, priority, protocol })
    }

    /// Writes it as `RTM_NEWRULE` or `RTM_DELRULE`.
    pub fn write(&self, writer: &mut Writer, kind: u16, flags: u16, sequence: u32) {
        let family = Family::of_address(self.source);
        let header = [family as u8, 0, family.bits(), 0, 0, 0, 0, TO_TABLE, 0, 0, 0, 0];
        writer.begin(kind, flags, sequence, &header);
        writer.address(SOURCE, self.source);
        writer.number(TABLE, self.table);
        writer.number(PRIORITY, self.priority);
        writer.attribute(PROTOCOL, &[self.protocol]);
        writer.end();
    }

    /// Writes a request for all rules of a family.
    pub fn dump(writer: &mut Writer, sequence: u32, family: Family) {
        let mut header = [0; HEADER];
        header[0] = family as u8;
        writer.dump(kind::GET_RULE, sequence, &header);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Messages;

    fn read(writer: &Writer) -> Option<Rule> {
        Rule::read(&Messages::new(writer.bytes()).next().unwrap().unwrap())
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        for source in ["10.0.0.1", "2001:db8::1"] {
            let rule = Rule { source: source.parse().unwrap(), table: 7_830, priority: 7, protocol: 217 };
            let mut writer = Writer::default();
            rule.write(&mut writer, kind::NEW_RULE, 0, 1);
            assert_eq!(read(&writer), Some(rule));
        }
    }

    #[test]
    fn a_rule_with_a_condition_more_is_of_another_shape() {
        const MARK: u16 = 10;
        let rule = |more: &[(u16, u32)]| {
            let mut writer = Writer::default();
            let header = [Family::Ipv4 as u8, 0, 32, 0, 0, 0, 0, TO_TABLE, 0, 0, 0, 0];
            writer.begin(kind::NEW_RULE, 0, 1, &header);
            writer.address(SOURCE, "10.0.0.1".parse().unwrap());
            writer.number(TABLE, 7_830);
            more.iter().for_each(|(kind, value)| writer.number(*kind, *value));
            writer.end();
            read(&writer)
        };
        let source = "10.0.0.1".parse().unwrap();
        let plain = Some(Rule { source, table: 7_830, priority: 0, protocol: 0 });
        assert_eq!((rule(&[]), rule(&[(SUPPRESS_PREFIX_LENGTH, u32::MAX)])), (plain, plain));
        assert_eq!((rule(&[(MARK, 1)]), rule(&[(SUPPRESS_PREFIX_LENGTH, 0)])), (None, None));
    }
}
