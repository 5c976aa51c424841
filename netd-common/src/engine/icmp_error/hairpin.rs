//! The host's errors about packets between containers: the stack is given what cannot be handed over with
//! the receiver's address, but with the sender's own, for it to answer to (`deliver.rs`).
//!
//! ```text
//!                what is sent    as it is handed over    as the stack sees it
//!   request      C:p -> H:h      G:q -> S:s              C:q -> S:s
//!   reply        S:s -> G:q      H:h -> C:p              S:s -> C:q
//! ```
//! So the reply half of the flow is found by who stands for the client (G) in its place.

use core::mem::MaybeUninit;

use crate::{
    address::{Address, Port},
    conntrack::{CtKey, Redirect, Scope, Translation},
    engine::flow,
    parse::Quote,
    tables::{FamilyTables, Flow as _},
};

/// What becomes of an error about such a request.
///
/// Not inlined: the key is in a stack frame of its own.
#[inline(never)]
pub(super) fn of_request<'a, A: Address, T: FamilyTables<A>>(
    tables: &T,
    quote: &Quote<A>,
    memory: &'a mut MaybeUninit<Translation<A>>,
) -> Option<&'a mut Translation<A>> {
    let Quote { ip, transport, .. } = quote;
    let (server, client) = ((ip.dst, transport.dport), (ip.src, transport.sport));
    let to = flow::peek(tables, &reply_half(tables, ip.proto, server, client)?, memory)?;
    (to.dst == client.0).then_some(to)
}

/// What becomes of an error about such a reply: the server knows another client.
///
/// Not inlined, as above.
#[inline(never)]
pub(super) fn of_reply<'a, A: Address, T: FamilyTables<A>>(
    tables: &T,
    quote: &Quote<A>,
    memory: &'a mut MaybeUninit<Translation<A>>,
) -> Option<&'a mut Translation<A>> {
    let Quote { ip, transport, .. } = quote;
    let (server, client) = ((ip.src, transport.sport), (ip.dst, transport.dport));
    let key = reply_half(tables, ip.proto, server, client)?;
    if !flow::is_live(tables, &key) || tables.flow(&key)?.entry().new_dst != client.0 {
        return None;
    }
    Some(memory.write(Translation {
        src: key.dst,
        dst: key.src,
        sport: key.dport,
        dport: key.sport,
        slot: 0,
        flags: 0,
        mtu: 0,
        redirect: Redirect::none(),
    }))
}

/// The key of what a server answers to whom it takes for its client.
#[inline(always)]
fn reply_half<A: Address, T: FamilyTables<A>>(
    tables: &T,
    proto: u8,
    server: (A, Port),
    client: (A, Port),
) -> Option<CtKey<A>> {
    let own = tables.network_of(client.0)?;
    let other = tables.network_of(server.0)?;
    let fixed = A::side(tables.network(own)?).snat_source;
    // As `begin::between_containers` chooses.
    let dst = if own == other || fixed == A::UNSPECIFIED {
        A::side(tables.network(other)?).bridge_addr
    } else {
        fixed
    };
    Some(CtKey {
        src: server.0,
        dst,
        sport: server.1,
        dport: client.1,
        proto,
        scope: Scope::Endpoint as u8,
        zone: 0,
    })
}
