//! Whether a frame's checksums hold, by their definitions (RFC 1071, SCTP's RFC 9260) over all the bytes:
//! nothing incremental, nothing shared with the engine.

const ETHERNET: usize = 14;

fn sums_up(parts: &[&[u8]]) -> bool {
    sum(parts) == 0xffff
}

/// The ones' complement sum of big-endian words, all ones over a right checksum and what it covers.
pub(crate) fn sum(parts: &[&[u8]]) -> u64 {
    let bytes = parts.concat();
    let words = bytes.chunks(2).map(|word| match *word {
        [high, low] => u64::from(u16::from_be_bytes([high, low])),
        [high] => u64::from(high) << 8,
        _ => unreachable!("chunks of two"),
    });
    let mut sum: u64 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}

/// Whether the IP header's checksum holds; IPv6 has none.
pub(crate) fn of_ip_header(frame: &[u8]) -> bool {
    let ip = &frame[ETHERNET..];
    ip[0] >> 4 == 6 || sums_up(&[&ip[..usize::from(ip[0] & 0xf) * 4]])
}

/// Whether the transport checksum holds; a UDP checksum of zero says that there is none.
pub(crate) fn of_transport(frame: &[u8]) -> bool {
    let ip = &frame[ETHERNET..];
    let (addresses, proto, segment) = if ip[0] >> 4 == 4 {
        let len = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
        (&ip[12..20], ip[9], &ip[usize::from(ip[0] & 0xf) * 4..len])
    } else {
        let len = usize::from(u16::from_be_bytes([ip[4], ip[5]]));
        (&ip[8..40], ip[6], &ip[40..40 + len])
    };
    let segment = match proto {
        17 if segment[6..8] == [0, 0] => return true,
        17 => &segment[..usize::from(u16::from_be_bytes([segment[4], segment[5]]))],
        _ => segment,
    };
    let pseudo = [&(segment.len() as u32).to_be_bytes()[..], &[0, 0, 0, proto]].concat();
    match proto {
        1 => sums_up(&[segment]),
        132 => {
            let mut zeroed = segment.to_vec();
            zeroed[8..12].fill(0);
            crc32c(&zeroed).to_le_bytes() == segment[8..12]
        }
        6 | 17 | 58 => sums_up(&[addresses, &pseudo, segment]),
        _ => true,
    }
}

/// SCTP's checksum by its definition (RFC 9260 appendix A), bit by bit.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 != 0 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 }
        })
    })
}
