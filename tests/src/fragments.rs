//! Frames taken apart into fragments, as a router or a sender with a small MTU does.

use crate::packet::checksum;

const ETHERNET_LEN: usize = 14;
const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;
/// The fragment header of IPv6.
const FRAGMENT: u8 = 44;

/// Takes an Ethernet frame without IP options or extension headers apart, in order: each fragment has `len`
/// bytes of its payload, a multiple of 8, and the last one the rest.
///
/// # Panics
/// Where the frame is too short for an IP header.
#[must_use]
pub fn fragments(frame: &[u8], id: u32, len: usize) -> Vec<Vec<u8>> {
    let is_v4 = frame[12..14] == [8, 0];
    let header_len = if is_v4 { IPV4_LEN } else { IPV6_LEN };
    let (headers, payload) = frame.split_at(ETHERNET_LEN + header_len);
    let last = payload.len().div_ceil(len).saturating_sub(1);
    let parts = payload.chunks(len).enumerate();
    parts
        .map(|(number, part)| {
            let (offset, more) = ((number * len) as u16, number != last);
            if is_v4 {
                v4(headers, id, offset, more, part)
            } else {
                v6(headers, id, offset, more, part)
            }
        })
        .collect()
}

/// RFC 791 section 3.1.
fn v4(headers: &[u8], id: u32, offset: u16, more: bool, part: &[u8]) -> Vec<u8> {
    let mut frame = [headers, part].concat();
    let header = &mut frame[ETHERNET_LEN..ETHERNET_LEN + IPV4_LEN];
    header[2..4].copy_from_slice(&((IPV4_LEN + part.len()) as u16).to_be_bytes());
    header[4..6].copy_from_slice(&(id as u16).to_be_bytes());
    let more = if more { 0x2000 } else { 0 };
    let field = (offset / 8) | more;
    header[6..8].copy_from_slice(&field.to_be_bytes());
    header[10..12].fill(0);
    let sum = checksum(&[header]);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// RFC 8200 section 4.5.
fn v6(headers: &[u8], id: u32, offset: u16, more: bool, part: &[u8]) -> Vec<u8> {
    let mut headers = headers.to_vec();
    let header = &mut headers[ETHERNET_LEN..];
    let next = std::mem::replace(&mut header[6], FRAGMENT);
    header[4..6].copy_from_slice(&((8 + part.len()) as u16).to_be_bytes());
    let field = (offset | u16::from(more)).to_be_bytes();
    [&headers[..], &[next, 0], &field, &id.to_be_bytes(), part].concat()
}
