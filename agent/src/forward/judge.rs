//! Where forwards may go: the grant's patterns and what is never allowed, held against addresses that were resolved.
//!
//! A pattern grants *addresses*. `localhost` stands for 127.0.0.0/8 and ::1 however they are spelt; an address, or a
//! pattern of digits and dots, for the addresses of that text; `*` for all. A name grants what the name means when it
//! is asked for by exactly that name, but never loopback: whoever answers for a name would otherwise choose a port of
//! the workspace's own. What is unspecified (`0`, `::`) means loopback, as it does to the kernel.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::never::Never;
use crate::ssh::{NOT_GRANTED, Why};

/// A destination as the client wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    host: String,
    port: u16,
}

/// What the grant says about hosts and ports.
#[derive(Debug, Default)]
pub(super) struct Destinations(Vec<Pattern>);

#[derive(Debug, PartialEq, Eq)]
struct Pattern {
    host: Host,
    /// `None` for any.
    port: Option<u16>,
}

#[derive(Debug, PartialEq, Eq)]
enum Host {
    Any,
    AnyV6,
    Loopback,
    Address(IpAddr),
    /// A pattern of digits, dots and wildcards.
    Addresses(String),
    /// A name, perhaps with wildcards, in lower case.
    Name(String),
}

impl Asked {
    /// Takes what a client wrote, if it can be a destination at all.
    pub(super) fn new(host: &str, port: u32) -> Result<Self, Why> {
        let port = u16::try_from(port).ok().filter(|port| *port != 0);
        let port = port.ok_or("the port is none")?;
        if host.contains('%') {
            return Err("an address with a zone is never forwarded to");
        }
        let plain = |b: u8| b.is_ascii_alphanumeric() || b".-_:".contains(&b);
        if host.is_empty() || host.len() > LONGEST_NAME || !host.bytes().all(plain) {
            return Err("the host is neither a name nor an address");
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }

    /// The host, to be resolved once.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// The name in its one spelling; `None` for anything that some resolver takes for an address.
    fn name(&self) -> Option<String> {
        let name = self.host.strip_suffix('.').unwrap_or(&self.host).to_ascii_lowercase();
        let last = name.rsplit('.').next().unwrap_or_default();
        let number = last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x");
        (!number && !name.contains(':')).then_some(name)
    }
}

impl std::fmt::Display for Asked {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host.contains(':') {
            true => write!(to, "[{}]:{}", self.host, self.port),
            false => write!(to, "{}:{}", self.host, self.port),
        }
    }
}

impl Destinations {
    /// Reads the patterns of a grant; those for sockets are not for here.
    pub(super) fn new(patterns: &[String]) -> Self {
        Self(patterns.iter().filter_map(|text| Pattern::read(text)).collect())
    }

    /// Whether no host at all is granted.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether any address could be granted at this port: else no name is resolved.
    pub(super) fn may(&self, asked: &Asked) -> bool {
        self.0.iter().any(|pattern| pattern.is_for(asked.port))
    }

    /// The addresses that may be connected to, in the order in which they were found. Exactly these are dialled.
    pub(super) fn judge(&self, asked: &Asked, found: &[IpAddr], never: &Never) -> Result<Vec<SocketAddr>, Why> {
        let name = asked.name();
        let mut allowed = Vec::new();
        let mut why = NOT_GRANTED;
        for address in found.iter().map(|address| meant(*address)) {
            let to = SocketAddr::new(address, asked.port);
            if let Some(forbidden) = never.forbids(to) {
                why = forbidden;
            } else if self.grants(name.as_deref(), to) && !allowed.contains(&to) {
                allowed.push(to);
            }
        }
        if allowed.is_empty() { Err(why) } else { Ok(allowed) }
    }

    fn grants(&self, name: Option<&str>, to: SocketAddr) -> bool {
        let address = to.ip();
        let matches = |host: &Host| match host {
            Host::Any => true,
            Host::AnyV6 => address.is_ipv6(),
            Host::Loopback => address.is_loopback(),
            Host::Address(one) => *one == address,
            Host::Addresses(pattern) => glob(pattern, &address.to_string()),
            Host::Name(pattern) => !address.is_loopback() && name.is_some_and(|name| glob(pattern, name)),
        };
        self.0
            .iter()
            .any(|pattern| pattern.is_for(to.port()) && matches(&pattern.host))
    }
}

impl Pattern {
    fn read(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let port = match port {
            "*" => None,
            port => Some(port.parse().ok()?),
        };
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some("*") => Host::AnyV6,
            Some(address) => Host::Address(meant(IpAddr::V6(address.parse::<Ipv6Addr>().ok()?))),
            None => Self::host(host),
        };
        Some(Self { host, port })
    }

    fn host(text: &str) -> Host {
        let text = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Host::Address(meant(address.into()));
        }
        match text.as_str() {
            "*" => Host::Any,
            "localhost" => Host::Loopback,
            text if !text.bytes().any(|b| b.is_ascii_alphabetic()) => Host::Addresses(text.to_owned()),
            _ => Host::Name(text),
        }
    }

    fn is_for(&self, port: u16) -> bool {
        self.port.is_none_or(|only| only == port)
    }
}

/// The address that the kernel would connect to: an IPv4 address inside of IPv6 is one, and nowhere is here.
fn meant(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        address => address,
    }
}

/// `*` stands for any text, `?` for one character. Takes time in proportion to the product of both lengths at most.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(byte) = text.get(t) {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(one) if *one == b'?' || one == byte => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, t) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|b| *b == b'*'))
}

/// RFC 1035's bound, and room for a final dot.
const LONGEST_NAME: usize = 254;

#[cfg(test)]
mod tests;
