//! EAL starts once, cleans up after the last handle, and says what went wrong in DPDK's words.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use dpdk::{Eal, Error, Mempool, Port};

/// One test, because it is about the one EAL of this process.
#[test]
fn eal_is_initialised_once_and_pools_and_ports_keep_it_alive() {
    let cores_before = std::thread::available_parallelism().unwrap();
    let eal = Eal::init(common::arguments()).unwrap();
    assert_eq!(std::thread::available_parallelism().unwrap().get(), 1, "EAL pins its thread");
    eal.restore_affinity();
    assert_eq!(std::thread::available_parallelism().unwrap(), cores_before);

    assert_eq!(Eal::init(common::arguments()).unwrap_err(), Error::AlreadyInitialised);

    let error = Port::open(&eal, "net_nosuchdriver0").unwrap_err();
    let text = error.to_string();
    assert!(text.contains("probe device net_nosuchdriver0"), "{text}");
    assert!(matches!(error, Error::Call { errno, .. } if errno > 0), "{text}");

    let error = Mempool::new(&eal, "huge", u32::MAX / 2, 0, 2048, None).unwrap_err();
    assert!(error.to_string().contains("huge"), "{error}");
    assert!(matches!(Port::open(&eal, "net_nu\0ll0").unwrap_err(), Error::NulByte(_)));

    let pool = Mempool::new(&eal, "alive", 255, 0, 256, None).unwrap();
    drop(eal);
    let packet = pool.allocate_one().unwrap();
    drop(pool);
    assert_eq!(packet.headroom(), usize::from(dpdk::HEADROOM), "the memory is still mapped");
    drop(packet);
    assert_eq!(Eal::init(common::arguments()).unwrap_err(), Error::AlreadyInitialised);
}
