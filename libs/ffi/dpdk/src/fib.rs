//! DPDK's own longest-prefix match, which benchmarks compare with: `rte_fib` (DIR-24-8) and `rte_fib6` (trie).
//!
//! Next hops are entries of 4 bytes, 31 bits of which are free; 0 is the answer where no route covers the address.

use std::ptr::NonNull;

use dpdk_sys as sys;

use crate::eal::Eal;
use crate::error::{Error, Result, c_string, check};

/// What a table is made for.
#[derive(Clone, Copy, Debug)]
pub struct FibConfig {
    /// Routes that it has room for.
    pub routes: u32,
    /// Second-level tables of 256 entries.
    pub second_level: u32,
}

/// Which of its lookup functions a table uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FibLookup {
    /// The scalar one; of the three for IPv4 the one made by macros.
    Scalar,
    /// IPv4 only: scalar, inlined for each size of next hop.
    ScalarInline,
    /// IPv4 only: scalar, one for all sizes of next hops.
    ScalarUnified,
    /// By AVX-512, which EAL must be allowed to use (`--force-max-simd-bitwidth=512`).
    Vector,
}

/// An IPv4 table: `rte_fib` of type DIR-24-8. Addresses are in host byte order.
///
/// One owner: DPDK lets other threads look up while one writes, this type does not.
#[derive(Debug)]
pub struct Fib {
    fib: NonNull<sys::rte_fib>,
    _eal: Eal,
}

/// An IPv6 table: `rte_fib6` of type trie.
///
/// One owner, as [`Fib`].
#[derive(Debug)]
pub struct Fib6 {
    fib: NonNull<sys::rte_fib6>,
    _eal: Eal,
}

// SAFETY: a table is memory of the process, without ties to a thread.
unsafe impl Send for Fib {}
// SAFETY: as above.
unsafe impl Send for Fib6 {}

impl Fib {
    /// An empty table.
    pub fn new(eal: &Eal, config: FibConfig) -> Result<Self> {
        let (name, routes) = (name(eal), routes(config)?);
        let name = c_string(&name)?;
        // SAFETY: EAL is initialised; the name outlives the call, which copies it.
        let fib = unsafe { sys::fc_fib_create(name.as_ptr(), routes, config.second_level) };
        let fib = NonNull::new(fib).ok_or_else(|| Error::last("create", wanted("rte_fib", config)))?;
        Ok(Self { fib, _eal: eal.clone() })
    }

    /// Chooses the lookup function; an error where this CPU or EAL's settings do not allow it.
    pub fn select(&mut self, lookup: FibLookup) -> Result<()> {
        let number = match lookup {
            FibLookup::Scalar => sys::RTE_FIB_LOOKUP_DIR24_8_SCALAR_MACRO,
            FibLookup::ScalarInline => sys::RTE_FIB_LOOKUP_DIR24_8_SCALAR_INLINE,
            FibLookup::ScalarUnified => sys::RTE_FIB_LOOKUP_DIR24_8_SCALAR_UNI,
            FibLookup::Vector => sys::RTE_FIB_LOOKUP_DIR24_8_VECTOR_AVX512,
        };
        // SAFETY: the table lives as long as `self`.
        let returned = unsafe { sys::rte_fib_select_lookup(self.fib.as_ptr(), number) };
        check(returned, "select a lookup function of", "rte_fib").map(drop)
    }

    /// Adds a route, or replaces its next hop. Host bits are cut off.
    pub fn add(&mut self, address: u32, length: u8, next_hop: u32) -> Result<()> {
        // SAFETY: the table lives as long as `self`.
        let returned = unsafe { sys::rte_fib_add(self.fib.as_ptr(), address, length, next_hop.into()) };
        check(returned, "add a route to", "rte_fib").map(drop)
    }

    /// Removes a route. One that is not there is an error.
    pub fn delete(&mut self, address: u32, length: u8) -> Result<()> {
        // SAFETY: the table lives as long as `self`.
        let returned = unsafe { sys::rte_fib_delete(self.fib.as_ptr(), address, length) };
        check(returned, "delete a route from", "rte_fib").map(drop)
    }

    /// Next hops of a burst, as many as the shorter of the two slices has.
    #[inline]
    pub fn lookup(&self, addresses: &[u32], next_hops: &mut [u64]) {
        let count = addresses.len().min(next_hops.len()) as i32;
        let addresses = addresses.as_ptr().cast_mut();
        // SAFETY: reads `count` addresses, although it asks for a mutable pointer, and writes as many next hops. It
        // fails for null pointers only.
        unsafe { sys::rte_fib_lookup_bulk(self.fib.as_ptr(), addresses, next_hops.as_mut_ptr(), count) };
    }
}

impl Drop for Fib {
    fn drop(&mut self) {
        // SAFETY: made by the function that pairs with this one, and not used any more.
        unsafe { sys::rte_fib_free(self.fib.as_ptr()) };
    }
}

impl Fib6 {
    /// An empty table.
    pub fn new(eal: &Eal, config: FibConfig) -> Result<Self> {
        let (name, routes) = (name(eal), routes(config)?);
        let name = c_string(&name)?;
        // SAFETY: EAL is initialised; the name outlives the call, which copies it.
        let fib = unsafe { sys::fc_fib6_create(name.as_ptr(), routes, config.second_level) };
        let fib = NonNull::new(fib).ok_or_else(|| Error::last("create", wanted("rte_fib6", config)))?;
        Ok(Self { fib, _eal: eal.clone() })
    }

    /// Chooses the lookup function; an error where there is none, or this CPU or EAL's settings do not allow it.
    pub fn select(&mut self, lookup: FibLookup) -> Result<()> {
        let number = match lookup {
            FibLookup::Vector => sys::RTE_FIB6_LOOKUP_TRIE_VECTOR_AVX512,
            _ => sys::RTE_FIB6_LOOKUP_TRIE_SCALAR,
        };
        // SAFETY: the table lives as long as `self`.
        let returned = unsafe { sys::rte_fib6_select_lookup(self.fib.as_ptr(), number) };
        check(returned, "select a lookup function of", "rte_fib6").map(drop)
    }

    /// Adds a route, or replaces its next hop. Host bits are cut off.
    pub fn add(&mut self, address: [u8; 16], length: u8, next_hop: u32) -> Result<()> {
        let (address, next_hop) = (address.as_ptr().cast(), next_hop.into());
        // SAFETY: the table lives as long as `self`; 16 bytes are read.
        let returned = unsafe { sys::rte_fib6_add(self.fib.as_ptr(), address, length, next_hop) };
        check(returned, "add a route to", "rte_fib6").map(drop)
    }

    /// Removes a route. One that is not there is an error.
    pub fn delete(&mut self, address: [u8; 16], length: u8) -> Result<()> {
        // SAFETY: the table lives as long as `self`; 16 bytes are read.
        let returned = unsafe { sys::rte_fib6_delete(self.fib.as_ptr(), address.as_ptr().cast(), length) };
        check(returned, "delete a route from", "rte_fib6").map(drop)
    }

    /// Next hops of a burst, as many as the shorter of the two slices has.
    #[inline]
    pub fn lookup(&self, addresses: &[[u8; 16]], next_hops: &mut [u64]) {
        let count = addresses.len().min(next_hops.len()) as i32;
        // 24.11 has a structure of 16 bytes for an address, 22.11 an array of them.
        let addresses = addresses.as_ptr().cast_mut().cast();
        // SAFETY: as for `Fib`.
        unsafe { sys::rte_fib6_lookup_bulk(self.fib.as_ptr(), addresses, next_hops.as_mut_ptr(), count) };
    }
}

impl Drop for Fib6 {
    fn drop(&mut self) {
        // SAFETY: made by the function that pairs with this one, and not used any more.
        unsafe { sys::rte_fib6_free(self.fib.as_ptr()) };
    }
}

/// Names are global in DPDK.
fn name(eal: &Eal) -> String {
    format!("fibcast-{}", eal.pool_number())
}

fn routes(config: FibConfig) -> Result<i32> {
    i32::try_from(config.routes).map_err(|_| Error::OutOfRange {
        subject: "rte_fib".into(),
        what: "number of routes",
        found: config.routes.into(),
        expected: format!("at most {}", i32::MAX),
    })
}

fn wanted(kind: &str, config: FibConfig) -> String {
    format!("{kind} for {} routes, {} second-level tables", config.routes, config.second_level)
}
