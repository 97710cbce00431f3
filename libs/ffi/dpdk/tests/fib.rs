//! DPDK's own tables answer by longest prefix, so that a benchmark compares with what works.

#![allow(clippy::unwrap_used)]

mod common;

use dpdk::{Eal, Fib, Fib6, FibConfig, FibLookup};

/// One test, because EAL can be initialised once.
#[test]
fn the_longest_prefix_answers_by_each_function() {
    let eal = Eal::init(common::arguments()).unwrap();
    let config = FibConfig { routes: 100, second_level: 100 };

    let mut v4 = Fib::new(&eal, config).unwrap();
    v4.add(0x0a00_0000, 8, 1).unwrap();
    v4.add(0x0a01_0200, 24, 2).unwrap();
    v4.add(0x0a01_0203, 32, 3).unwrap();
    let asked = [0x0a00_0001, 0x0a01_0201, 0x0a01_0203, 0x0b00_0000];
    for lookup in [FibLookup::Scalar, FibLookup::ScalarInline, FibLookup::ScalarUnified] {
        v4.select(lookup).unwrap();
        let mut found = [9; 4];
        v4.lookup(&asked, &mut found);
        assert_eq!(found, [1, 2, 3, 0], "{lookup:?}");
    }
    v4.delete(0x0a01_0200, 24).unwrap();
    let mut found = [9; 2];
    v4.lookup(&asked, &mut found);
    assert_eq!(found, [1, 1]);
    assert!(v4.delete(0x0a01_0200, 24).unwrap_err().to_string().contains("delete a route from rte_fib"));

    let address = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
    let mut v6 = Fib6::new(&eal, config).unwrap();
    v6.add(address("2001:db8::"), 32, 1).unwrap();
    v6.add(address("2001:db8:0:1::"), 64, 2).unwrap();
    v6.select(FibLookup::Scalar).unwrap();
    let asked = [address("2001:db8:1::"), address("2001:db8:0:1::9"), address("2001:db9::")];
    let mut found = [9; 3];
    v6.lookup(&asked, &mut found);
    assert_eq!(found, [1, 2, 0]);
}
