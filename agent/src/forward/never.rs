//! Addresses that no grant opens: what a pod's platform answers on, the agent's own ports, the gateway, and what the
//! configuration adds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::ifaddrs::getifaddrs;

use crate::config::Denied;
use crate::ssh::Why;

/// What is never connected to, as it is for one connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Never {
    /// Ports of this machine on which the agent listens.
    pub(crate) ports: Vec<u16>,
    /// Addresses of this machine.
    pub(crate) own: Vec<IpAddr>,
    /// The gateway that brought the session.
    pub(crate) gateway: Option<IpAddr>,
    /// What the configuration adds.
    pub(crate) denied: Vec<Denied>,
}

impl Never {
    /// With the addresses that this machine has now.
    pub(super) fn now(&self) -> Self {
        let own = getifaddrs().into_iter().flatten().filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
        });
        Self {
            own: own.collect(),
            ..self.clone()
        }
    }

    /// Why nobody may connect there; `None` if somebody may.
    pub(super) fn forbids(&self, to: SocketAddr) -> Option<Why> {
        let address = to.ip();
        if is_platform(address) {
            return Some("link-local and metadata addresses are never forwarded to");
        }
        let here = address.is_loopback() || self.own.contains(&address);
        if here && self.ports.contains(&to.port()) {
            return Some("the agent's own port is never forwarded to");
        }
        // A gateway on this very machine cannot be told from it by its address.
        if !here && self.gateway.map(|gateway| gateway.to_canonical()) == Some(address) {
            return Some("the gateway is never forwarded to");
        }
        let denied = self.denied.iter().any(|denied| denied.covers(to));
        denied.then_some("the workspace's configuration forbids the address")
    }
}

/// Link-local, metadata, multicast and reserved addresses, also where IPv6 carries them.
fn is_platform(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_platform_v4(v4),
        IpAddr::V6(v6) => {
            let carried = carried(v6).is_some_and(|v4| is_platform_v4(v4) || v4.is_loopback());
            let [first, second, ..] = v6.segments();
            let platform = METADATA_V6.contains(&v6) || [first, second] == AWS_V6;
            carried || v6.is_multicast() || v6.is_unicast_link_local() || platform
        }
    }
}

fn is_platform_v4(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    address.is_link_local() || address.is_multicast() || first == 0 || first >= 240 || METADATA_V4.contains(&address)
}

/// The IPv4 address inside of an IPv6 one: NAT64 (RFC 6052, RFC 8215), SIIT (RFC 7915), 6to4 (RFC 3056), and the old compatible
/// form.
fn carried(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x64, 0xff9b, 1, .., high, low] => Some(v4(high, low)),
        [0, 0, 0, 0, 0xffff, 0, high, low] => Some(v4(high, low)),
        [0x2002, high, low, ..] => Some(v4(high, low)),
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => Some(v4(high, low)),
        _ => None,
    }
}

/// Alibaba, Azure, Oracle; everybody else's is link-local.
const METADATA_V4: [Ipv4Addr; 3] = [
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(192, 0, 0, 192),
];
/// Google, Oracle, Scaleway, Linode, Alibaba.
const METADATA_V6: [Ipv6Addr; 5] = [
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe),
    Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42),
    Ipv6Addr::new(0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 1),
    Ipv6Addr::new(0xfd00, 0x100, 0, 0, 0, 0, 0x100, 0x200),
];
/// What every address of AWS's own services begins with: metadata (`::254`), the credentials of pods (`::23`), names, time.
const AWS_V6: [u16; 2] = [0xfd00, 0xec2];
