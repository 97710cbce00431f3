//! Reads and writes MRT files (RFC 6396): routing tables and updates as recorded by route collectors.
//!
//! [`Reader`] iterates over [`Route`]s: which peer announced or withdrew which prefix, with which next hop, and when. It reads files as
//! they are published, plain or compressed by gzip, bzip2, xz or zstd, which it tells by their content:
//!
//! | record | read |
//! |---|---|
//! | `TABLE_DUMP` | IPv4 and IPv6 |
//! | `TABLE_DUMP_V2` | `PEER_INDEX_TABLE`, `RIB_IPV4_UNICAST`, `RIB_IPV6_UNICAST`, `RIB_GENERIC`, and these with path identifiers (RFC 8050) |
//! | `BGP4MP`, `BGP4MP_ET` | all subtypes of RFC 6396 and RFC 8050: `MESSAGE`, `MESSAGE_AS4`, `LOCAL`, `ADDPATH`, `STATE_CHANGE`; and `ENTRY` |
//! | `BGP` | updates and state changes of files before 2001 |
//!
//! Records without unicast routes of peers (multicast, OSPF, messages that the collector sent) are passed over and [counted](Counts). An
//! unknown record type, a length that exceeds its record, and a file that ends inside a record are [`MrtError`]s with file, record and
//! offset. Path identifiers in records whose type does not announce them are noticed (`src/paths.rs` says how).
//!
//! It gives what determines forwarding and best path. Communities, the AS path itself and other attributes are not given.
//!
//! ```no_run
//! use fibcast_mrt::{Event, Reader};
//! for route in Reader::open("rib.mrt.gz")? {
//!     let route = route?; // an error is the last item; a table that ends in one is not complete
//!     match route.event {
//!         Event::Announce { next_hop, metric, .. } => println!("{} via {next_hop} metric {metric}", route.prefix),
//!         Event::Withdraw => println!("{} withdrawn at {} µs", route.prefix, route.time_us),
//!     }
//! }
//! # Ok::<(), fibcast_mrt::MrtError>(())
//! ```
//!
//! [`Writer`] writes the records that tests and generated tables need:
//!
//! ```
//! use fibcast_mrt::{Event, Reader, Writer};
//!
//! let mut writer = Writer::new(Vec::new());
//! writer.peer_index(1_700_000_000, "example", "192.0.2.1".parse()?)?;
//! writer.rib(1_700_000_000, "203.0.113.0/24".parse()?, "192.0.2.9".parse()?)?;
//! let file = std::io::Cursor::new(writer.into_inner());
//!
//! let routes: Vec<_> = Reader::from_read("example.mrt", file)?.collect::<Result<_, _>>()?;
//! assert_eq!(routes[0].prefix, "203.0.113.0/24".parse()?);
//! assert_eq!(routes[0].event, Event::Announce { next_hop: "192.0.2.9".parse()?, metric: 0, as_path_len: 0 });
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Beside `bgpkit-parser`: that gives all attributes; its iterator ends without an error if a file is truncated, so that a partial table
//! would pass for a complete one. `benches/read.rs` compares the speed of both.
//!
//! | module, in reading order | holds |
//! |---|---|
//! | `reader`, `input` | [`Reader`]: decompression, iteration over records |
//! | `record`, `decoder` | MRT record types; what is remembered between records |
//! | `table`, `message` | routes of tables; routes of BGP messages |
//! | `attributes`, `paths` | BGP path attributes; whether prefixes have path identifiers |
//! | `cursor`, `error` | bounds-checked reading; [`MrtError`] |
//! | `writer` | [`Writer`] |

mod attributes;
mod cursor;
mod decoder;
mod error;
mod input;
mod message;
mod paths;
mod reader;
mod record;
mod route;
mod table;
#[cfg(test)]
mod tests;
mod writer;

pub use error::{MrtError, Problem};
pub use reader::{BadRecords, Reader};
pub use route::{Counts, Entry, Event, Route};
pub use writer::Writer;
