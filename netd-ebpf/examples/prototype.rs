//! One published port with hard-wired addresses: the hops of the fast path and nothing else.
//!
//! No tables, no checks, no first packet: what it reaches in `cargo xtask bench` is what the hops
//! themselves allow. It is no part of netd. `xtask/src/bench/prototype.rs` loads it.
#![no_std]
#![no_main]

use aya_ebpf::{
    Global,
    bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, TC_ACT_OK},
    helpers::{bpf_csum_diff, bpf_redirect_neigh, bpf_redirect_peer},
    macros::classifier,
    programs::TcContext,
};

/// Addresses as they lie in a packet; one of IPv4 is the first word.
type Address = [u32; 4];

#[unsafe(no_mangle)]
static HOST: Global<Address> = Global::new([0; 4]);
#[unsafe(no_mangle)]
static CONTAINER: Global<Address> = Global::new([0; 4]);
/// The same outside and in the container, as it lies in a packet.
#[unsafe(no_mangle)]
static PORT: Global<u16> = Global::new(0);
/// The devices' indexes.
#[unsafe(no_mangle)]
static UPLINK: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static BRIDGE_PORT: Global<u32> = Global::new(0);

/// Where a frame has what, without options and extension headers. Units: bytes.
trait Layout {
    const PROTOCOL: usize;
    const SOURCE: usize;
    const DESTINATION: usize;
    const PAYLOAD: usize;
    /// How many words of an [`Address`] are used.
    const ADDRESS_WORDS: usize;
}

struct Ipv4;

impl Layout for Ipv4 {
    const PROTOCOL: usize = 23;
    const SOURCE: usize = 26;
    const DESTINATION: usize = 30;
    const PAYLOAD: usize = 34;
    const ADDRESS_WORDS: usize = 1;
}

struct Ipv6;

impl Layout for Ipv6 {
    const PROTOCOL: usize = 20;
    const SOURCE: usize = 22;
    const DESTINATION: usize = 38;
    const PAYLOAD: usize = 54;
    const ADDRESS_WORDS: usize = 4;
}

const ETHER_TYPE: usize = 12;
const IPV4_CHECKSUM: usize = 24;

const TCP: u8 = 6;
const UDP: u8 = 17;

/// Sends what comes for the published port straight into the container.
#[classifier]
pub(crate) fn from_uplink(ctx: TcContext) -> i32 {
    let translated = match ether_type(&ctx) {
        Ok(0x0800) => to_container::<Ipv4>(&ctx),
        Ok(0x86dd) => to_container::<Ipv6>(&ctx),
        _ => return TC_ACT_OK,
    };
    match translated {
        // SAFETY: a helper without pointers.
        Ok(()) => unsafe { bpf_redirect_peer(BRIDGE_PORT.load(), 0) as i32 },
        Err(_) => TC_ACT_OK,
    }
}

/// Sends its answers straight out.
#[classifier]
pub(crate) fn from_endpoint(ctx: TcContext) -> i32 {
    let translated = match ether_type(&ctx) {
        Ok(0x0800) => to_client::<Ipv4>(&ctx),
        Ok(0x86dd) => to_client::<Ipv6>(&ctx),
        _ => return TC_ACT_OK,
    };
    match translated {
        // SAFETY: without parameters the helper takes a null pointer.
        Ok(()) => unsafe { bpf_redirect_neigh(UPLINK.load(), core::ptr::null_mut(), 0, 0) as i32 },
        Err(_) => TC_ACT_OK,
    }
}

fn ether_type(ctx: &TcContext) -> Result<u16, i64> {
    ctx.load(ETHER_TYPE).map(u16::from_be)
}

#[inline(always)]
fn to_container<L: Layout>(ctx: &TcContext) -> Result<(), i64> {
    translate::<L>(ctx, L::DESTINATION, L::PAYLOAD + 2, HOST.load(), CONTAINER.load())
}

#[inline(always)]
fn to_client<L: Layout>(ctx: &TcContext) -> Result<(), i64> {
    translate::<L>(ctx, L::SOURCE, L::PAYLOAD, CONTAINER.load(), HOST.load())
}

/// Replaces an address, in the packet and in its checksums, if it and the port are the published ones.
#[inline(always)]
fn translate<L: Layout>(
    ctx: &TcContext,
    address_at: usize,
    port_at: usize,
    mut old: Address,
    mut new: Address,
) -> Result<(), i64> {
    let last = const { L::ADDRESS_WORDS - 1 };
    if ctx.load::<u16>(port_at)? != PORT.load()
        || ctx.load::<u32>(address_at + 4 * last)? != old[last]
    {
        return Err(0);
    }
    let (checksum, flags) = match ctx.load(L::PROTOCOL)? {
        TCP => (16, BPF_F_PSEUDO_HDR),
        UDP => (6, BPF_F_PSEUDO_HDR | BPF_F_MARK_MANGLED_0),
        _ => return Err(0),
    };
    let len = const { 4 * L::ADDRESS_WORDS as u32 };
    // SAFETY: both arrays have at least `len` bytes.
    let diff = unsafe { bpf_csum_diff(old.as_mut_ptr(), len, new.as_mut_ptr(), len, 0) } as u64;
    ctx.l4_csum_replace(L::PAYLOAD + checksum, 0, diff, flags.into())?;
    if L::ADDRESS_WORDS == 1 {
        ctx.l3_csum_replace(IPV4_CHECKSUM, 0, diff, 0)?;
        ctx.store(address_at, &new[0], 0)
    } else {
        ctx.store(address_at, &new, 0)
    }
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
