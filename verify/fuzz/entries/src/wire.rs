//! Frames, records and sketches as they come over a connection.

use fibcast_sync_proto::codec::{Decoder, Encoder};
use fibcast_sync_proto::frame::{Frame, Inbox};
use fibcast_sync_proto::sketch::{Sketch, SketchDecoder, Symbol, Toggle};
use fibcast_sync_proto::wire::ProtocolError;
use fibcast_sync_proto::{Change, Table};

use crate::Input;

/// A stream in portions: every frame that is read is the same after a round trip.
pub fn frames(data: &[u8]) {
    let mut input = Input::new(data);
    let portion = usize::from(input.byte().unwrap_or(0)).max(1);
    let mut inbox = Inbox::default();
    let mut rest = input.take(data.len());
    while !rest.is_empty() {
        let (part, later) = rest.split_at(portion.min(rest.len()));
        rest = later;
        inbox.push(part);
        loop {
            match inbox.next() {
                Ok(Some(frame)) => round_trip(&frame),
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

fn round_trip(frame: &Frame<'_>) {
    let mut bytes = Vec::new();
    if !matches!(frame, Frame::Hello { .. }) {
        Frame::Hello { name: "a".into() }.encode(&mut bytes);
    }
    let mut again = Inbox::default();
    frame.encode(&mut bytes);
    again.push(&bytes);
    if !matches!(frame, Frame::Hello { .. }) {
        again.next().expect("a Hello is read");
    }
    assert_eq!(again.next().expect("what was written is read").as_ref(), Some(frame));
}

fn read(decoder: &mut Decoder, body: &[u8], changes: &mut Vec<Change>) -> Result<(), ProtocolError> {
    decoder.decode(body, |change| {
        changes.push(change.into());
        Ok(())
    })
}

/// Bodies of Records frames: what is decoded is the same after a round trip, and a table takes it whole or not at all.
pub fn records(data: &[u8]) {
    let mut input = Input::new(data);
    let mut decoder = Decoder::new();
    let mut changes: Vec<Change> = Vec::new();
    loop {
        let n = usize::from(input.number());
        let body = input.take(n);
        if body.is_empty() || read(&mut decoder, body, &mut changes).is_err() {
            break;
        }
    }
    let (mut bytes, mut encoder) = (Vec::new(), Encoder::new());
    changes.iter().filter_map(Change::view).for_each(|change| encoder.push(change, &mut bytes));
    encoder.flush(&mut bytes);
    let mut stream = Vec::new();
    Frame::Hello { name: "a".into() }.encode(&mut stream);
    stream.extend(bytes);
    let (mut inbox, mut decoder, mut again) = (Inbox::default(), Decoder::new(), Vec::new());
    inbox.push(&stream);
    while let Some(frame) = inbox.next().expect("what was written is read") {
        if let Frame::Records(body) = frame {
            read(&mut decoder, body, &mut again).expect("what was written is read");
        }
    }
    assert_eq!(changes, again);
    let mut table = Table::new(1);
    let before = table.digest();
    if table.commit(changes).is_err() {
        assert_eq!(table.digest(), before, "a refused batch leaves no trace");
    }
    assert!(table.is_sound());
}

/// Coded symbols of a hostile peer against a table's own: no work without end, and never "done" with a wrong result.
pub fn sketch(data: &[u8]) {
    let mut input = Input::new(data);
    let mut ours = Sketch::default();
    let shared: Vec<Toggle> = (0..u64::from(input.byte().unwrap_or(0)))
        .map(|i| Toggle { id: u128::from(i.wrapping_mul(0x9e37_79b9_7f4a_7c15)) << 64, comes: true })
        .collect();
    ours.apply(&shared);
    let mut theirs = ours.clone();
    for _ in 0..input.byte().unwrap_or(0) % 32 {
        let id = u64::from(input.number()) << 32 | u64::from(input.number());
        theirs.apply(&[Toggle { id: u128::from(id) << 64, comes: input.byte().unwrap_or(0) & 1 == 0 }]);
    }
    let mut decoder = SketchDecoder::new();
    for (i, (own, other)) in ours.symbols_from(0).zip(theirs.symbols_from(0)).take(2_048).enumerate() {
        let mut symbol = other;
        // Now and then one that fits nothing.
        if let Some(by) = input.byte().filter(|b| b % 3 == 0) {
            symbol = Symbol {
                sum: symbol.sum ^ u64::from(input.number()),
                check: symbol.check ^ u32::from(by),
                count: symbol.count.wrapping_add(i64::from(by) - 128),
            };
        }
        decoder.push(symbol, own);
        if i % 64 == 63 {
            decoder.peel();
            if decoder.is_done() {
                break;
            }
        }
    }
    decoder.peel();
    let found = decoder.difference();
    assert!(
        found.theirs.len() + found.ours.len() <= 2 * decoder.len(),
        "more differences than symbols can tell"
    );
}
