//! Prints the configuration of one node of a topology in containers, for the scripts in `docker/`.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use fibcast_testbed::config;

/// Prints the configuration of a node of a topology.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// Folder of control sockets
    #[arg(long, default_value = "/run/fibcast")]
    control: PathBuf,
    /// Folder of the sockets between NIC hosts and generators
    #[arg(long, default_value = "/run/links")]
    links: PathBuf,
    /// What to print
    #[command(subcommand)]
    node: Node,
}

#[derive(Debug, Subcommand)]
enum Node {
    /// A route server, with what comes on standard input
    RouteServer {
        /// Its name
        name: String,
        /// Another route server
        #[arg(long)]
        peer: Vec<String>,
    },
    /// A NIC host, with what comes on standard input
    NicHost {
        /// Its name, which ends in its number
        name: String,
        /// The core of its worker
        core: usize,
        /// A server: first the primary, then the secondary
        #[arg(long)]
        server: Vec<String>,
    },
    /// Arguments of the fibcast-pktgen at the other end of a NIC host's ports, one on each line
    Generator {
        /// The NIC host
        name: String,
        /// The generator's core
        core: usize,
    },
}

fn main() -> std::io::Result<()> {
    let Options { control, links, node } = Options::parse();
    let rest = || std::io::read_to_string(std::io::stdin());
    let serves = config::listen("0.0.0.0:7830");
    let start = |name: &str| config::node(name, &control, &serves) + config::INSECURE;
    let text = match node {
        Node::RouteServer { name, peer } => start(&name) + &config::peers(peer) + &rest()?,
        Node::NicHost { name, core, server } => {
            start(&name)
                + &config::workers(&name, 256, &core.to_string(), "")
                + &config::virtio_ports(&links, &name)
                + &config::sync(server, &rest()?)
        }
        Node::Generator { name, core } => {
            config::generator(&links, &name, core, &format!("gen-{name}")).join("\n") + "\n"
        }
    };
    print!("{text}");
    Ok(())
}
