//! The words of a filter into a [`Filter`].

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use super::{Filter, Join, Node, Primitive, Side};
use crate::packet::ethernet;

/// Most primitives: a worker asks all of them about each packet.
const MOST_PRIMITIVES: usize = 64;
/// Most parentheses and negations within each other: each is a function call of a worker.
const DEEPEST: usize = 16;

const PRIMITIVES: &str = "ip, ip6, arp, icmp, icmp6, tcp, udp, host, net, port, not or (";

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Filter, String> {
        let words = words(text);
        if words.is_empty() {
            return Ok(Filter::default());
        }
        let mut parser = Parser { words: &words, at: 0, depth: 0, primitives: 0 };
        let root = parser.chain()?;
        match parser.next() {
            None => Ok(Filter { root: Some(root) }),
            Some(")") => Err("filter: \")\" without \"(\"".to_owned()),
            Some(other) => Err(format!("filter: expected \"and\" or \"or\", found {other:?}")),
        }
    }
}

/// Words and signs; `&&`, `||` and `!` are those of pcap-filter(7) as well.
fn words(text: &str) -> Vec<String> {
    let mut spaced = text.replace("&&", " and ").replace("||", " or ");
    for sign in ["(", ")", "!"] {
        spaced = spaced.replace(sign, &format!(" {sign} "));
    }
    let word = |word| if word == "!" { "not" } else { word };
    spaced.split_whitespace().map(|text| word(text).to_owned()).collect()
}

struct Parser<'a> {
    words: &'a [String],
    at: usize,
    depth: usize,
    primitives: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.words.get(self.at).map(String::as_str)
    }

    fn next(&mut self) -> Option<&'a str> {
        let word = self.peek();
        self.at += usize::from(word.is_some());
        word
    }

    /// Operands joined by `and` and `or`.
    fn chain(&mut self) -> Result<Node, String> {
        let first = self.operand()?;
        let mut rest = Vec::new();
        loop {
            let join = match self.peek() {
                Some("and") => Join::And,
                Some("or") => Join::Or,
                _ => break,
            };
            self.next();
            rest.push((join, self.operand()?));
        }
        Ok(if rest.is_empty() { first } else { Node::Chain(Box::new(first), rest) })
    }

    /// A primitive, a negation, or a chain in parentheses.
    fn operand(&mut self) -> Result<Node, String> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(format!(
                "filter: expected at most {DEEPEST} parentheses and \"not\" within each other"
            ));
        }
        let node = match self.peek() {
            None => return Err("filter: it ends where a primitive was expected".to_owned()),
            Some("not") => {
                self.next();
                Node::Not(Box::new(self.operand()?))
            }
            Some("(") => {
                self.next();
                let node = self.chain()?;
                match self.next() {
                    Some(")") => node,
                    Some(other) => {
                        return Err(format!("filter: expected \"and\", \"or\" or \")\", found {other:?}"));
                    }
                    None => return Err("filter: \"(\" without \")\"".to_owned()),
                }
            }
            Some(_) => Node::Primitive(self.primitive()?),
        };
        self.depth -= 1;
        Ok(node)
    }

    fn primitive(&mut self) -> Result<Primitive, String> {
        self.primitives += 1;
        if self.primitives > MOST_PRIMITIVES {
            return Err(format!("filter: expected at most {MOST_PRIMITIVES} primitives"));
        }
        let side = match self.peek() {
            Some("src") => Side::Source,
            Some("dst") => Side::Destination,
            _ => Side::Any,
        };
        if side != Side::Any {
            self.next();
        }
        let word = self.next().unwrap_or_default();
        let sided = matches!(word, "host" | "net" | "port");
        if side != Side::Any && !sided {
            return Err(format!("filter: expected host, net or port after src or dst, found {word:?}"));
        }
        let mut value = |what: &str| self.next().ok_or(format!("filter: expected {what} after {word:?}"));
        Ok(match word {
            "ip" => Primitive::EtherType(ethernet::IPV4),
            "ip6" => Primitive::EtherType(ethernet::IPV6),
            "arp" => Primitive::EtherType(ethernet::ARP),
            "icmp" => Primitive::Protocol(1),
            "tcp" => Primitive::Protocol(6),
            "udp" => Primitive::Protocol(17),
            "icmp6" => Primitive::Protocol(58),
            "host" | "net" => {
                let text = value("an address")?;
                let host = text.parse::<IpAddr>().map(IpNet::from).ok();
                let net = host.or_else(|| text.parse::<IpNet>().ok());
                Primitive::Net(
                    side,
                    net.ok_or(format!("filter: expected an address or prefix, found {text:?}"))?,
                )
            }
            "port" => {
                let text = value("a number")?;
                let port =
                    text.parse().map_err(|_| format!("filter: expected a port number, found {text:?}"))?;
                Primitive::Port(side, port)
            }
            _ => return Err(format!("filter: expected {PRIMITIVES}, found {word:?}")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_filters_say_what_was_expected() {
        for (filter, words) in [
            ("udpp", "found \"udpp\""),
            ("host", "expected an address after"),
            ("host 10.0.0", "found \"10.0.0\""),
            ("port many", "found \"many\""),
            ("udp tcp", "expected \"and\" or \"or\", found \"tcp\""),
            ("udp and", "ends where a primitive"),
            ("udp or", "ends where a primitive"),
            ("or udp", "found \"or\""),
            ("not", "ends where a primitive"),
            ("(udp", "\"(\" without \")\""),
            ("(udp tcp)", "expected \"and\", \"or\" or \")\", found \"tcp\""),
            ("udp)", "\")\" without \"(\""),
            ("()", "found \")\""),
            ("src udp", "expected host, net or port after src or dst"),
        ] {
            let error = filter.parse::<Filter>().unwrap_err();
            assert!(error.starts_with("filter: ") && error.contains(words), "{filter}: {error}");
        }
    }

    #[test]
    fn a_filter_is_bounded_in_depth_and_length() {
        let deep = |levels: usize| "(".repeat(levels) + "udp" + &")".repeat(levels);
        deep(DEEPEST - 1).parse::<Filter>().unwrap();
        for filter in [deep(DEEPEST), deep(30_000), "not ".repeat(20_000) + "udp"] {
            assert!(filter.parse::<Filter>().unwrap_err().contains("at most 16"));
        }
        let long = |primitives: usize| vec!["udp"; primitives].join(" or ");
        long(MOST_PRIMITIVES).parse::<Filter>().unwrap();
        assert!(long(MOST_PRIMITIVES + 1).parse::<Filter>().unwrap_err().contains("at most 64 primitives"));
    }
}
