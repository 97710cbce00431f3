//! Ports on software devices: net_null, net_ring and net_pcap.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::time::{Duration, Instant};

use common::{numbered, numbers, turn};
use dpdk::{Burst, Error, Port, PortConfig, RxQueue, TxQueue};

fn one(queues: (Vec<RxQueue>, Vec<TxQueue>)) -> (RxQueue, TxQueue) {
    let (mut rx, mut tx) = queues;
    (rx.pop().unwrap(), tx.pop().unwrap())
}

#[test]
fn null_device_gives_and_takes_packets_without_leaking() {
    let turn = turn();
    let pool = turn.pool();
    // Not with copy=1: the driver of 25.11 never frees what it copied from.
    let mut port = Port::open(&turn.eal, "net_null0,size=80").unwrap();
    let (mut rx, mut tx) = one(port.start(&PortConfig::default(), std::slice::from_ref(&pool)).unwrap());
    let mut burst = Burst::<32>::new();
    for _ in 0..100 {
        assert_eq!(rx.receive(&mut burst), 32);
        assert_eq!(rx.receive(&mut burst), 0, "no room");
        assert_eq!(burst[0].len(), 80);
        assert_eq!(tx.send(&mut burst), 32);
        assert!(burst.is_empty());
        assert_eq!(tx.send(&mut burst), 0, "nothing to send");
    }
    let stats = port.stats().unwrap();
    assert_eq!((stats.rx_packets, stats.tx_packets), (3200, 3200));
    assert_eq!(port.info().unwrap().driver, "net_null");
    assert!(port.link().unwrap().up);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn ring_device_returns_what_was_sent_in_order_and_keeps_the_rest_in_the_burst() {
    let turn = turn();
    let pool = turn.pool();
    let mut port = Port::open(&turn.eal, "net_ring0").unwrap();
    let (mut rx, mut tx) = one(port.start(&PortConfig::default(), std::slice::from_ref(&pool)).unwrap());
    let mut sent = 0_u32;
    // The ring holds 1023 packets; the pool has as many, so it runs dry just as the ring is full.
    let mut unsent = loop {
        let mut burst = numbered::<31>(&pool, 100, 31);
        let accepted = tx.send(&mut burst);
        sent += accepted as u32;
        if accepted < 31 {
            assert_eq!(numbers(&burst)[0], 100 + accepted as u8, "the rest, in order");
            break burst;
        }
        if pool.size() - pool.in_use() < 31 {
            break burst;
        }
    };
    assert_eq!(pool.in_use(), sent + unsent.len() as u32);
    unsent.clear();
    let mut burst = Burst::<31>::new();
    let mut received = 0;
    while rx.receive(&mut burst) > 0 {
        assert_eq!(numbers(&burst)[0], 100);
        received += burst.len() as u32;
        burst.clear();
    }
    assert_eq!(received, sent);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn full_device_leaves_unsent_packets_owned_by_the_burst() {
    let turn = turn();
    let pool = dpdk::Mempool::new(&turn.eal, "large", 2047, 0, 256, None).unwrap();
    let mut port = Port::open(&turn.eal, "net_ring1").unwrap();
    let (mut rx, mut tx) = one(port.start(&PortConfig::default(), std::slice::from_ref(&pool)).unwrap());
    let mut burst = numbered::<100>(&pool, 0, 100);
    let mut sent = tx.send(&mut burst);
    while burst.is_empty() {
        burst = numbered::<100>(&pool, 0, 100);
        sent += tx.send(&mut burst);
    }
    assert_eq!(sent, 1023, "a ring of 1024 slots");
    assert_eq!(numbers(&burst)[0], (sent % 100) as u8);
    assert_eq!(tx.send(&mut burst), 0);
    drop(burst);
    assert_eq!(pool.in_use(), 1023);
    let mut back = Burst::<64>::new();
    while rx.receive(&mut back) > 0 {
        back.clear();
    }
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn pcap_device_writes_frames_that_it_reads_again() {
    let turn = turn();
    let pool = turn.pool();
    let path = std::env::temp_dir().join(format!("fibcast-dpdk-{}.pcap", std::process::id()));
    let frame: Vec<u8> = (0..60).collect();
    {
        let devargs = format!("net_pcap0,tx_pcap={}", path.display());
        let mut port = Port::open(&turn.eal, &devargs).unwrap();
        let (_rx, mut tx) = one(port.start(&PortConfig::default(), std::slice::from_ref(&pool)).unwrap());
        let mut burst = Burst::<4>::new();
        pool.allocate(&mut burst, 3);
        for packet in burst.iter_mut() {
            assert!(packet.set_data(&frame));
        }
        assert_eq!(tx.send(&mut burst), 3);
    }
    {
        let devargs = format!("net_pcap1,rx_pcap={}", path.display());
        let mut port = Port::open(&turn.eal, &devargs).unwrap();
        let (mut rx, _tx) = one(port.start(&PortConfig::default(), std::slice::from_ref(&pool)).unwrap());
        let mut burst = Burst::<8>::new();
        let end = Instant::now() + Duration::from_secs(5);
        while burst.len() < 3 && Instant::now() < end {
            rx.receive(&mut burst);
        }
        assert_eq!(burst.len(), 3);
        assert!(burst.iter().all(|packet| packet.data() == frame));
    }
    std::fs::remove_file(&path).unwrap();
    assert_eq!(pool.in_use(), 0, "ports closed, all buffers back");
}

#[test]
fn frame_larger_than_a_buffer_comes_in_segments() {
    let turn = turn();
    let large = turn.pool();
    let small = dpdk::Mempool::new(&turn.eal, "small", 255, 0, 256, None).unwrap();
    let path = std::env::temp_dir().join(format!("fibcast-dpdk-large-{}.pcap", std::process::id()));
    let frame: Vec<u8> = (0..700_u32).map(|at| (at % 251) as u8).collect();
    {
        let mut port = Port::open(&turn.eal, &format!("net_pcap2,tx_pcap={}", path.display())).unwrap();
        let (_rx, mut tx) = one(port.start(&PortConfig::default(), std::slice::from_ref(&large)).unwrap());
        let mut burst = Burst::<4>::new();
        large.allocate(&mut burst, 1);
        assert!(burst[0].set_data(&frame));
        assert_eq!(tx.send(&mut burst), 1);
    }
    {
        let mut port = Port::open(&turn.eal, &format!("net_pcap3,rx_pcap={}", path.display())).unwrap();
        // The driver cuts what the file has, whatever the MTU.
        let config = PortConfig { mtu: 200, ..PortConfig::default() };
        let (mut rx, _tx) = one(port.start(&config, std::slice::from_ref(&small)).unwrap());
        let mut burst = Burst::<8>::new();
        let end = Instant::now() + Duration::from_secs(5);
        while burst.is_empty() && Instant::now() < end {
            rx.receive(&mut burst);
        }
        let packet = &mut burst[0];
        // 25.11 fills the headroom of further segments too.
        assert!(packet.segments().count() > 1);
        assert_eq!(packet.len(), 700);
        assert_eq!(packet.segments().flatten().copied().collect::<Vec<_>>(), frame);
        assert_eq!((packet.is_contiguous(), packet.tailroom(), packet.data()), (false, 0, &frame[..256]));
        assert_eq!(packet.port(), port.id());
        assert!(packet.append(1).is_none() && !packet.truncate(1), "not for packets of several segments");
    }
    std::fs::remove_file(&path).unwrap();
    assert_eq!((large.in_use(), small.in_use()), (0, 0), "all segments back");
}

#[test]
fn port_is_open_once_and_again_after_it_is_dropped() {
    let turn = turn();
    let first = Port::open(&turn.eal, "net_null1").unwrap();
    let error = Port::open(&turn.eal, "net_null1").unwrap_err();
    assert_eq!(error, Error::DeviceInUse("net_null1".into()));
    drop(first);
    assert!(Port::open(&turn.eal, "net_null1").is_ok(), "it was unplugged");
}

#[test]
fn port_does_not_stop_under_a_queue_handle_and_starts_again_differently() {
    let turn = turn();
    let pool = turn.pool();
    let mut port = Port::open(&turn.eal, "net_null2").unwrap();
    let queues = port.start(&PortConfig::default(), std::slice::from_ref(&pool)).unwrap();
    assert_eq!(port.stop().unwrap_err(), Error::QueuesInUse("net_null2".into()));
    let again = port.start(&PortConfig::default(), std::slice::from_ref(&pool)).unwrap_err();
    assert_eq!(again, Error::AlreadyStarted("net_null2".into()));
    drop(queues);
    port.stop().unwrap();
    let (rx, tx) = port.start(&PortConfig { rx_queues: 1, ..PortConfig::default() }, &[pool]).unwrap();
    assert_eq!((rx.len(), tx.len()), (1, 1));
}

#[test]
fn queue_handle_outlives_its_port_and_moves_to_another_thread() {
    let turn = turn();
    let pool = turn.pool();
    let mut port = Port::open(&turn.eal, "net_null3").unwrap();
    let (mut rx, mut tx) = one(port.start(&PortConfig::default(), std::slice::from_ref(&pool)).unwrap());
    drop(port);
    let eal = turn.eal.clone();
    let worker = std::thread::spawn(move || {
        let _known = eal.register_thread().unwrap();
        let mut burst = Burst::<16>::new();
        let received = rx.receive(&mut burst);
        (received, tx.send(&mut burst))
    });
    assert_eq!(worker.join().unwrap(), (16, 16));
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn settings_outside_the_device_limits_are_named() {
    let turn = turn();
    let pool = turn.pool();
    let mut port = Port::open(&turn.eal, "net_null4").unwrap();
    let none = PortConfig { tx_queues: 0, ..PortConfig::default() };
    let text = port.start(&none, std::slice::from_ref(&pool)).unwrap_err().to_string();
    assert!(text.starts_with("net_null4: tx queues is 0, expected 1 to "), "{text}");
    let text = port.start(&PortConfig::default(), &[]).unwrap_err().to_string();
    assert!(text.contains("number of pools"), "{text}");
}

#[test]
fn mac_address_can_be_set_and_read_back() {
    let turn = turn();
    let mut port = Port::open(&turn.eal, "net_null5").unwrap();
    port.set_mac([2, 0xfc, 0, 0, 0, 1]).unwrap();
    assert_eq!(port.mac().unwrap(), [2, 0xfc, 0, 0, 0, 1]);
}
