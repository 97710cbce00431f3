//! A zebra that announces routes as they are asked for: the way of a route from its source to the daemon that is looked at.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use fibcast_netlink::testing as wire;
use fibcast_testbed::Failure;
use ipnet::{IpNet, Ipv4Net};

/// Routes in a frame of FPM, which holds 64 KiB.
const FRAME: usize = 500;
/// The kernel's main table.
const MAIN: u8 = 254;
const NEW_ROUTE: u16 = 24;
const UNICAST: u8 = 1;

/// The connection to a source.
#[derive(Debug)]
pub struct Zebra {
    stream: TcpStream,
    next: u32,
}

impl Zebra {
    /// Connects, and announces so many routes.
    ///
    /// # Errors
    /// Nobody listens, or takes them.
    pub fn connect(fpm: SocketAddr, routes: u32) -> Result<Zebra, Failure> {
        let stream = TcpStream::connect(fpm).map_err(|error| Failure::io(fpm, error))?;
        let limit = Some(Duration::from_secs(10));
        stream.set_write_timeout(limit).map_err(|error| Failure::io(fpm, error))?;
        let mut zebra = Zebra { stream, next: 0 };
        let all: Vec<Vec<u8>> = (0..routes).map(|_| message(zebra.take())).collect();
        for part in all.chunks(FRAME) {
            zebra.send(part)?;
        }
        Ok(zebra)
    }

    /// Announces one more.
    ///
    /// # Errors
    /// The source does not take it.
    pub fn announce(&mut self) -> Result<IpNet, Failure> {
        let prefix = self.take();
        self.send(&[message(prefix)])?;
        Ok(prefix)
    }

    fn take(&mut self) -> IpNet {
        let address = Ipv4Addr::from(0x1400_0000 + (self.next << 8));
        self.next += 1;
        Ipv4Net::new(address, 24).map_or_else(|_| IpNet::from(std::net::IpAddr::V4(address)), IpNet::V4)
    }

    fn send(&mut self, messages: &[Vec<u8>]) -> Result<(), Failure> {
        self.stream.write_all(&frame(messages)).map_err(|error| Failure::io("FPM session", error))
    }
}

/// A route without interface: this host's decide nothing about it.
fn message(prefix: IpNet) -> Vec<u8> {
    wire::route_of(NEW_ROUTE, &prefix.to_string(), MAIN, UNICAST, &[wire::gateway("192.0.2.9")])
}

fn frame(messages: &[Vec<u8>]) -> Vec<u8> {
    let content = messages.concat();
    let mut frame = vec![1, 1];
    frame.extend(((content.len() + 4) as u16).to_be_bytes());
    frame.extend(content);
    frame
}

/// A frame with one route, for those who are no zebra.
pub fn a_frame() -> Vec<u8> {
    frame(&[wire::route_of(NEW_ROUTE, "0.0.0.0/0", MAIN, UNICAST, &[wire::gateway("192.0.2.66")])])
}
