//! Reads and writes MRT files (RFC 6396): routing tables and updates as recorded by route collectors.
//!
//! [`Reader`] iterates over [`Route`]s: which peer announced or withdrew which prefix, with which next hop, and when. It reads
//! `TABLE_DUMP_V2` (`RIB_IPV4_UNICAST`, `RIB_IPV6_UNICAST` and their add-path forms, `PEER_INDEX_TABLE`), `BGP4MP` and `BGP4MP_ET`
//! (`MESSAGE`, `MESSAGE_AS4`) with IPv4 and IPv6 unicast routes, plain or gzip, detected by content. Records without unicast routes (state
//! changes, multicast) are skipped. An unknown record type, a length that exceeds its record, and a file that ends inside a record are
//! [`MrtError`]s with file and offset.
//!
//! ```no_run
//! use fibcast_mrt::{Event, Reader};
//! for route in Reader::open("rib.mrt.gz")? {
//!     let route = route?; // an error is the last item; a table that ends in one is not complete
//!     match route.event {
//!         Event::Announce { next_hop, metric } => println!("{} via {next_hop} metric {metric}", route.prefix),
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
//! assert_eq!(routes[0].event, Event::Announce { next_hop: "192.0.2.9".parse()?, metric: 0 });
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Why not `bgpkit-parser`: it is fast (3.8 M routes/s on the same transfer file), but its iterator ends without an error if a file is
//! truncated, so that a partial table would pass for a complete one; and its errors have no offset.
//!
//! | module, in reading order | holds |
//! |---|---|
//! | `reader` | [`Reader`]: decompression, iteration over records |
//! | `record` | MRT record types |
//! | `bgp` | BGP UPDATE messages and path attributes |
//! | `cursor`, `error` | bounds-checked reading; [`MrtError`] |
//! | `writer` | [`Writer`] |

mod bgp;
mod cursor;
mod error;
mod reader;
mod record;
mod route;
#[cfg(test)]
mod tests;
mod writer;

pub use error::{MrtError, Problem};
pub use reader::Reader;
pub use route::{Event, Route};
pub use writer::Writer;
