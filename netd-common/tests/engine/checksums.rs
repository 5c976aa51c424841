//! Whether a frame's checksums hold, by RFC 1071's definition over all the bytes: nothing incremental,
//! nothing shared with the engine.

const ETHERNET: usize = 14;

/// The ones' complement sum of big-endian words is all ones.
fn sums_up(parts: &[&[u8]]) -> bool {
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
    sum == 0xffff
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
        6 | 17 | 58 => sums_up(&[addresses, &pseudo, segment]),
        _ => true,
    }
}
