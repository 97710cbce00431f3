//! Compressed files: recognized by content, in several streams, cut off, and too greedy.

use std::io::Write;

use proptest::prelude::*;

use super::*;

/// Ways to compress, by the name's ending.
const WAYS: [&str; 5] = ["gz", "bz2", "xz", "zst", "pzstd"];

fn compress(way: &str, bytes: &[u8]) -> Vec<u8> {
    let written = "memory takes everything";
    match way {
        "gz" => {
            let mut e = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            e.write_all(bytes).expect(written);
            e.finish().expect(written)
        }
        "bz2" => {
            let mut e = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
            e.write_all(bytes).expect(written);
            e.finish().expect(written)
        }
        "xz" => {
            let mut e = liblzma::write::XzEncoder::new(Vec::new(), 1);
            e.write_all(bytes).expect(written);
            e.finish().expect(written)
        }
        "zst" => checked_zstd(bytes),
        // pzstd puts a skippable frame with the length of the next one before it.
        "pzstd" => {
            let frame = checked_zstd(bytes);
            let mut out = vec![0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0];
            out.extend((frame.len() as u32).to_le_bytes());
            out.extend(frame);
            out
        }
        other => panic!("no such way: {other}"),
    }
}

/// As the command writes it: with a checksum.
fn checked_zstd(bytes: &[u8]) -> Vec<u8> {
    let mut e = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    e.include_checksum(true).unwrap();
    e.write_all(bytes).unwrap();
    e.finish().unwrap()
}

#[test]
fn compressions_are_told_by_content_also_in_several_streams() {
    for way in WAYS {
        let one = compress(way, &table());
        assert_eq!(read(&one).unwrap().len(), 3, "{way}");
        let two = [one, compress(way, &updates())].concat();
        assert_eq!(read(&two).unwrap().len(), 3 + 7, "{way}: nothing of the second stream is lost");
    }
}

#[test]
fn every_cut_of_a_compressed_file_is_an_error_except_between_streams() {
    for way in WAYS {
        let first = compress(way, &table());
        let whole = [first.clone(), compress(way, &updates())].concat();
        for cut in 1..whole.len() {
            match read(&whole[..cut]) {
                // pzstd's frame with a length is one that can stand at the end.
                Ok(routes) => {
                    let between = cut == first.len() || way == "pzstd" && cut == first.len() + 12;
                    assert!(between && routes.len() == 3, "{way}: cut at {cut} of {}", whole.len());
                }
                Err(error) => assert!(error.to_string().starts_with("test.mrt: record "), "{way}: {error}"),
            }
        }
    }
}

#[test]
fn a_damaged_compressed_file_is_an_error() {
    // Their checksums are at least 32 bits: what they let through, no reader sees.
    for way in WAYS {
        let whole = compress(way, &updates());
        let middle = whole.len() / 2;
        let mut damaged = whole.clone();
        damaged[middle] ^= 0x10;
        assert!(read(&damaged).is_err(), "{way}");
    }
}

#[test]
fn files_of_times_that_look_like_a_compression_are_read_as_what_they_are() {
    // "BZh9" as a time is in April 2005, a skippable frame of zstd in August 2012.
    for seconds in [u32::from_be_bytes(*b"BZh9"), 0x502a_4d18, 0x5f2a_4d18] {
        let mut w = Writer::new(Vec::new());
        w.peer_index(seconds, "", ip("192.0.2.1")).unwrap();
        w.rib(seconds, net("10.0.0.0/8"), ip("198.18.0.1")).unwrap();
        let routes = read(&w.into_inner()).unwrap();
        assert_eq!((routes.len(), routes[0].time_us), (1, u64::from(seconds) * 1_000_000));
    }
}

#[test]
fn a_window_larger_than_the_limit_is_refused_before_it_is_allocated() {
    // A zstd frame with a window of 2 GiB: descriptor 0, window descriptor 21 << 3.
    let zst = [0x28, 0xb5, 0x2f, 0xfd, 0, 21 << 3, 1, 0, 0];
    assert!(read(&zst).unwrap_err().to_string().contains("cannot read"));
    // xz with a dictionary of 3 GiB, by the byte in the block's header that names it.
    let mut xz = compress("xz", &table());
    // Stream header 12 bytes; block header: size, flags, filter 0x21, 1 byte of properties: the dictionary's size.
    assert_eq!(xz[14..16], [0x21, 1]);
    xz[16] = 39;
    let len = (usize::from(xz[12]) + 1) * 4;
    let mut crc = flate2::Crc::new();
    crc.update(&xz[12..12 + len - 4]);
    xz[12 + len - 4..12 + len].copy_from_slice(&crc.sum().to_le_bytes());
    let error = read(&xz).unwrap_err().to_string();
    assert!(error.contains("cannot read"), "{error}");
}

/// One stream again and again, without an end.
struct Endless(Vec<u8>, usize);

impl std::io::Read for Endless {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        let n = (&self.0[self.1..]).read(to)?;
        self.1 = (self.1 + n) % self.0.len();
        Ok(n)
    }
}

#[test]
fn a_file_is_read_as_it_comes_whatever_it_would_grow_to() {
    for way in WAYS {
        let reader = Reader::from_read("endless", Endless(compress(way, &updates()), 0)).unwrap();
        assert_eq!(reader.take(70_000).filter(Result::is_ok).count(), 70_000, "{way}");
    }
}

proptest! {
    #[test]
    fn damaged_compressed_files_end_in_routes_or_an_error(
        hits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        way in 0..WAYS.len(),
    ) {
        let mut bytes = compress(WAYS[way], &updates());
        for (at, value) in hits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let _ = read(&bytes);
    }
}
