//! Files of frames in pcap format, which DPDK's net_pcap ports read and write. <https://www.ietf.org/archive/id/draft-gharris-opsawg-pcap-01.html>

/// Magic number, version 2.4, time zone, accuracy, longest frame, Ethernet.
const HEADER: [u32; 6] = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, 1];
/// Seconds, microseconds, bytes there, bytes on the wire.
const RECORD: usize = 16;

/// A file of these frames.
pub fn write<F: AsRef<[u8]>>(frames: impl IntoIterator<Item = F>) -> Vec<u8> {
    let mut file: Vec<u8> = HEADER.iter().flat_map(|word| word.to_le_bytes()).collect();
    for frame in frames {
        let frame = frame.as_ref();
        let words = [0, 0, frame.len() as u32, frame.len() as u32];
        file.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        file.extend(frame);
    }
    file
}

/// The frames of a file that was written on this kind of machine, as far as they are whole.
pub fn read(file: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let mut rest = file.get(size_of_val(&HEADER)..).unwrap_or_default();
    while let Some((&[_, _, _, _, _, _, _, _, a, b, c, d, ..], more)) = rest.split_first_chunk::<RECORD>() {
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        let Some((frame, more)) = more.split_at_checked(length) else { break };
        frames.push(frame.to_vec());
        rest = more;
    }
    frames
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_a_frame_that_is_cut_off_is_left_out() {
        let file = write([[1u8, 2].as_slice(), &[3]]);
        assert_eq!(read(&file), [vec![1, 2], vec![3]]);
        assert_eq!(read(&file[..file.len() - 1]), [vec![1, 2]]);
    }
}
