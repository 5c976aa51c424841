//! Which programs the classifiers are that an earlier daemon has left on devices.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use netlink_packet_core::NLM_F_REQUEST;
use netlink_packet_route::{
    RouteNetlinkMessage,
    tc::{TcAttribute, TcFilterBpf, TcFilterBpfOption, TcHandle, TcHeader, TcMessage, TcOption},
};
use nix::libc;

use super::{Netlink, NetlinkError, Request};

/// How many questions are asked at once.
const AT_ONCE: usize = 64;

/// The places of a clsact qdisc.
const PLACES: [TcHandle; 2] = [place(TcHandle::MIN_INGRESS), place(TcHandle::MIN_EGRESS)];

const fn place(minor: u16) -> TcHandle {
    TcHandle { major: TcHandle::CLSACT.major, minor }
}

impl Netlink {
    /// The programs of the classifiers with this priority and handle: on the way in and on the way out, by
    /// interface index. Devices without are left out.
    pub async fn attached(
        &self,
        ifindexes: impl IntoIterator<Item = u32>,
        (priority, handle): (u16, u16),
    ) -> Result<BTreeMap<u32, [Option<u32>; 2]>, NetlinkError> {
        let carried = stream::iter(ifindexes).map(async |ifindex| {
            let [ingress, egress] =
                PLACES.map(|place| classifier(ifindex, place, priority, handle));
            let programs = [self.program_of(ingress).await?, self.program_of(egress).await?];
            Ok((ifindex, programs))
        });
        let has_any =
            |(_, programs): &(u32, [Option<u32>; 2])| programs.iter().any(Option::is_some);
        let carried = carried.buffer_unordered(AT_ONCE);
        carried.try_filter(|carried| std::future::ready(has_any(carried))).try_collect().await
    }

    /// The number of a classifier's program, if it is there.
    async fn program_of(&self, classifier: TcMessage) -> Result<Option<u32>, NetlinkError> {
        let asked = RouteNetlinkMessage::GetTrafficFilter(classifier);
        match self.exchange(asked, NLM_F_REQUEST).await {
            Ok(reply) => Ok(reply.messages.iter().find_map(program_id)),
            Err(error) if error.kind() == std::io::ErrorKind::NotConnected => {
                Err(NetlinkError::Failed { request: Request::ListAttached, source: error })
            }
            // No such qdisc, filter or device.
            Err(_) => Ok(None),
        }
    }
}

fn classifier(ifindex: u32, place: TcHandle, priority: u16, handle: u16) -> TcMessage {
    // `TC_H_MAKE(priority << 16, protocol)`: the protocol is in network order.
    let every_protocol = u16::to_be(libc::ETH_P_ALL as u16);
    let header = TcHeader {
        index: ifindex.cast_signed(),
        handle: u32::from(handle).into(),
        parent: place,
        info: u32::from(priority) << 16 | u32::from(every_protocol),
        ..TcHeader::default()
    };
    TcMessage::from_parts(header, vec![TcAttribute::Kind(TcFilterBpf::KIND.to_owned())])
}

fn program_id(message: &RouteNetlinkMessage) -> Option<u32> {
    let RouteNetlinkMessage::NewTrafficFilter(filter) = message else { return None };
    filter.attributes.iter().find_map(|attribute| {
        let TcAttribute::Options(options) = attribute else { return None };
        options.iter().find_map(|option| {
            if let TcOption::Bpf(TcFilterBpfOption::ProgId(id)) = option { Some(*id) } else { None }
        })
    })
}
