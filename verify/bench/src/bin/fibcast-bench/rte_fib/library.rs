//! rte_fib in this process.

use dpdk::{Eal, Fib, Fib6, FibConfig, FibLookup};

use super::{Kernel, PeerError, reserved};
use crate::cpu;
use crate::input::{Family, Table};

/// DPDK, initialised for tables alone: no device, no hugepages, as `dpdk-test-fib` is run here.
#[derive(Debug)]
pub struct Library {
    eal: Eal,
}

/// What its two tables have in common. Next hops are the numbers of groups plus 1.
pub trait Lookups: Sized {
    /// An address.
    type Address: Copy;
    /// An empty table.
    fn new(eal: &Eal, config: FibConfig) -> dpdk::Result<Self>;
    /// Chooses the lookup function.
    fn select(&mut self, lookup: FibLookup) -> dpdk::Result<()>;
    /// Adds a route or replaces its next hop.
    fn add(&mut self, address: Self::Address, length: u8, next_hop: u32) -> dpdk::Result<()>;
    /// Next hops of a burst.
    fn lookup(&self, addresses: &[Self::Address], next_hops: &mut [u64]);
}

macro_rules! lookups {
    ($table:ty, $address:ty) => {
        impl Lookups for $table {
            type Address = $address;

            fn new(eal: &Eal, config: FibConfig) -> dpdk::Result<Self> {
                <$table>::new(eal, config)
            }

            fn select(&mut self, lookup: FibLookup) -> dpdk::Result<()> {
                <$table>::select(self, lookup)
            }

            fn add(&mut self, address: $address, length: u8, next_hop: u32) -> dpdk::Result<()> {
                <$table>::add(self, address, length, next_hop)
            }

            #[inline]
            fn lookup(&self, addresses: &[$address], next_hops: &mut [u64]) {
                <$table>::lookup(self, addresses, next_hops);
            }
        }
    };
}

lookups!(Fib, u32);
lookups!(Fib6, [u8; 16]);

impl Library {
    /// Starts it on `core`. Its memory is address space until it is written to.
    pub fn start(core: usize) -> Result<Library, PeerError> {
        let megabytes = (cpu::memory_available() >> 21).clamp(1_000, 6_000).to_string();
        let (core, prefix) = (core.to_string(), format!("fibcast-bench-{}", std::process::id()));
        let eal = Eal::init([
            "--no-huge",
            "--no-pci",
            "--no-shconf",
            "--no-telemetry",
            "--log-level=3",
            "--iova-mode=va",
            "--force-max-simd-bitwidth=512",
            "-m",
            &megabytes,
            "--file-prefix",
            &prefix,
            "-l",
            &core,
        ])?;
        eal.restore_affinity();
        Ok(Library { eal })
    }

    /// Room for a family's routes, but none in it yet.
    pub fn empty<F: Family>(&self, table: &Table) -> Result<F::Peer, PeerError> {
        let routes = table.of::<F>().count() as u32;
        // Its tree of routes needs inner nodes too, at most one for each route.
        let config = FibConfig { routes: 2 * routes + 16, second_level: reserved::<F>(table) as u32 + 16 };
        Ok(F::Peer::new(&self.eal, config)?)
    }

    /// A family's routes.
    pub fn table<F: Family>(&self, table: &Table) -> Result<F::Peer, PeerError> {
        let mut fib = self.empty::<F>(table)?;
        for ((network, length), group) in table.of::<F>() {
            fib.add(network.wire(), length, group + 1)?;
        }
        Ok(fib)
    }
}

/// Every answer of a lookup function against what is right.
pub fn check<F: Family>(
    fib: &mut F::Peer,
    kernel: Kernel,
    addresses: &[F],
    expected: impl Fn(F) -> Option<u32>,
) -> Result<(), PeerError> {
    fib.select(kernel.lookup)?;
    let mut found = [0; 32];
    for burst in addresses.chunks(found.len()) {
        let wire: Vec<F::Wire> = burst.iter().map(|address| address.wire()).collect();
        fib.lookup(&wire, &mut found);
        for (&address, &found) in burst.iter().zip(&found) {
            let expected = expected(address).map_or(0, |group| u64::from(group) + 1);
            if found != expected {
                return Err(PeerError::Wrong { address: address.ip().to_string(), expected, found });
            }
        }
    }
    Ok(())
}
