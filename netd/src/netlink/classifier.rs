//! Queueing disciplines and the classifiers that hang on a device, as the kernel lists them. Only read here;
//! netd's own are put in place by `datapath`.

use netlink_packet_route::{
    RouteNetlinkMessage,
    tc::{TcAttribute, TcFilterBpfOption, TcHandle, TcMessage, TcOption},
};

use super::{Netlink, NetlinkError, Request};

/// A queueing discipline of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qdisc {
    pub ifindex: u32,
    /// The kernel's word for it, as in `tc qdisc add dev DEVICE KIND`.
    pub kind: String,
}

/// A classifier of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classifier {
    pub ifindex: u32,
    pub is_egress: bool,
    /// The kernel's word for it, as in `tc filter add dev DEVICE ingress KIND`.
    pub kind: String,
    /// The lowest is asked first.
    pub priority: u16,
    /// The number of an Ethernet protocol; 3 is all of them.
    pub protocol: u16,
    pub handle: u32,
    /// What its eBPF program is called.
    pub program: Option<String>,
}

impl Netlink {
    /// Lists the queueing disciplines of all devices.
    pub async fn qdiscs(&self) -> Result<Vec<Qdisc>, NetlinkError> {
        let messages = self
            .dump(RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default()))
            .await
            .map_err(|source| NetlinkError::Failed { request: Request::ListQdiscs, source })?;
        Ok(messages.into_iter().filter_map(read_qdisc).collect())
    }

    /// Lists the classifiers of a device for both directions, in the order in which they are asked. The device has
    /// a queueing discipline of kind `clsact` or `ingress`.
    pub async fn classifiers(&self, ifindex: u32) -> Result<Vec<Classifier>, NetlinkError> {
        let mut classifiers = Vec::new();
        for minor in [TcHandle::MIN_INGRESS, TcHandle::MIN_EGRESS] {
            let mut query = TcMessage::with_index(ifindex.cast_signed());
            query.header.parent = TcHandle { major: TcHandle::CLSACT.major, minor };
            let messages = self.dump(RouteNetlinkMessage::GetTrafficFilter(query)).await.map_err(
                |source| NetlinkError::Failed {
                    request: Request::ListClassifiers { ifindex },
                    source,
                },
            )?;
            let is_egress = minor == TcHandle::MIN_EGRESS;
            classifiers.extend(messages.into_iter().filter_map(|m| read_classifier(m, is_egress)));
        }
        Ok(classifiers)
    }
}

fn read_qdisc(message: RouteNetlinkMessage) -> Option<Qdisc> {
    let RouteNetlinkMessage::NewQueueDiscipline(message) = message else { return None };
    let ifindex = message.header.index.cast_unsigned();
    Some(Qdisc { ifindex, kind: kind(&message.attributes)? })
}

/// Without a handle it is the head of those of its priority.
fn read_classifier(message: RouteNetlinkMessage, is_egress: bool) -> Option<Classifier> {
    let RouteNetlinkMessage::NewTrafficFilter(message) = message else { return None };
    let (header, handle) = (&message.header, u32::from(message.header.handle));
    let [priority, protocol] = [header.info >> 16, header.info & 0xffff];
    (handle != 0).then_some(())?;
    Some(Classifier {
        ifindex: header.index.cast_unsigned(),
        is_egress,
        kind: kind(&message.attributes)?,
        priority: u16::try_from(priority).ok()?,
        protocol: u16::from_be(u16::try_from(protocol).ok()?),
        handle,
        program: program(&message.attributes),
    })
}

fn kind(attributes: &[TcAttribute]) -> Option<String> {
    attributes.iter().find_map(|attribute| {
        if let TcAttribute::Kind(kind) = attribute { Some(kind.clone()) } else { None }
    })
}

fn program(attributes: &[TcAttribute]) -> Option<String> {
    attributes.iter().find_map(|attribute| {
        let TcAttribute::Options(options) = attribute else { return None };
        options.iter().find_map(|option| {
            if let TcOption::Bpf(TcFilterBpfOption::ProgName(name)) = option {
                Some(name.clone())
            } else {
                None
            }
        })
    })
}
