//! Decompression, chosen by the first bytes.
//!
//! Memory is bounded whatever the input says: each decompressor works on a stream, with a window of at most 128 MiB. A stream that is cut
//! off is an error of kind `UnexpectedEof`.

use std::io::{self, BufRead, BufReader, Cursor, Read};

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use liblzma::bufread::XzDecoder;
use liblzma::stream::{CONCATENATED, Stream};

/// Bytes read from the file or the decompressor at a time.
const BUFFER_LEN: usize = 256 << 10;
/// Longest magic number: bzip2's with the one of its first block.
const MAGIC_LEN: usize = 10;
/// Memory that a decompressor may take for what it has read, as a power of two: what `zstd -19` and `xz -9` need, and twice as much.
const WINDOW_LOG: u32 = 27;

/// Compressions that [`Reader`](crate::Reader) knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compression {
    None,
    Gzip,
    Bzip2,
    Xz,
    Zstd,
}

/// Tells a compression from an MRT header, which begins with a time: the magic numbers of gzip and zstd are times before there were
/// MRT files; those of bzip2 and of a skippable frame of zstd (RFC 8878 §3.1.2) are times of 2005 and 2012 and need more bytes.
fn compression(head: &[u8]) -> Compression {
    const BLOCK: [u8; 6] = [0x31, 0x41, 0x59, 0x26, 0x53, 0x59];
    const NO_BLOCK: [u8; 6] = [0x17, 0x72, 0x45, 0x38, 0x50, 0x90];
    match head {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [b'B', b'Z', b'h', b'1'..=b'9', block @ ..] if block == BLOCK || block == NO_BLOCK => {
            Compression::Bzip2
        }
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
        // The frame's length is little-endian; as an MRT type it is above 255, and there are none.
        [0x50..=0x5f, 0x2a, 0x4d, 0x18, length, ..] if *length != 0 => Compression::Zstd,
        _ => Compression::None,
    }
}

/// The decompressed bytes of `input`.
pub(super) fn open(mut input: impl Read + Send + 'static) -> io::Result<Box<dyn BufRead + Send>> {
    let mut head = Vec::with_capacity(MAGIC_LEN);
    input.by_ref().take(MAGIC_LEN as u64).read_to_end(&mut head)?;
    let kind = compression(&head);
    let raw = BufReader::with_capacity(BUFFER_LEN, Cursor::new(head).chain(input));
    Ok(match kind {
        Compression::None => Box::new(raw),
        Compression::Gzip => buffered(MultiGzDecoder::new(raw)),
        Compression::Bzip2 => buffered(MultiBzDecoder::new(raw)),
        Compression::Xz => {
            let stream = Stream::new_stream_decoder(1 << WINDOW_LOG, CONCATENATED)?;
            buffered(XzDecoder::new_stream(raw, stream))
        }
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(raw)?;
            decoder.window_log_max(WINDOW_LOG)?;
            buffered(decoder)
        }
    })
}

fn buffered(decoder: impl Read + Send + 'static) -> Box<dyn BufRead + Send> {
    Box::new(BufReader::with_capacity(BUFFER_LEN, decoder))
}
