//! Addresses that forwards never reach: `10.0.0.0/8`, `192.0.2.7:443`, `[fd00::1]:443`, `fd00::/8`.

use std::net::{IpAddr, SocketAddr};

/// A range of addresses, perhaps one port of it only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    first: IpAddr,
    /// Bits that must be the same.
    bits: u32,
    port: Option<u16>,
}

impl Denied {
    /// Reads `ADDRESS`, `ADDRESS/BITS` or `ADDRESS:PORT`; IPv6 addresses before a port in brackets.
    ///
    /// # Errors
    /// A sentence where the text is none of them.
    pub fn parse(text: &str) -> Result<Self, String> {
        let all = |first: IpAddr| if first.is_ipv4() { 32 } else { 128 };
        if let Ok(to) = text.parse::<SocketAddr>() {
            let first = to.ip();
            return Ok(Self {
                first,
                bits: all(first),
                port: Some(to.port()),
            });
        }
        let wrong = || format!("'{text}' is no address of the form 10.0.0.0/8, 192.0.2.7 or 192.0.2.7:443");
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u32>().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let first: IpAddr = address.parse().map_err(|_| wrong())?;
        let bits = bits.unwrap_or(all(first));
        if bits > all(first) {
            return Err(wrong());
        }
        Ok(Self {
            first,
            bits,
            port: None,
        })
    }

    /// Whether this address and port are in the range.
    pub(crate) fn covers(&self, to: SocketAddr) -> bool {
        let same = match (self.first.to_canonical(), to.ip().to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(other)) => {
                same(first.to_bits(), other.to_bits(), u32::BITS - self.bits.min(32))
            }
            (IpAddr::V6(first), IpAddr::V6(other)) => same(first.to_bits(), other.to_bits(), u128::BITS - self.bits),
            _ => false,
        };
        same && self.port.is_none_or(|port| port == to.port())
    }
}

/// Whether both are the same but for so many low bits.
fn same<T>(one: T, other: T, low: u32) -> bool
where
    T: std::ops::BitXor<Output = T> + Into<u128>,
{
    let differ: u128 = (one ^ other).into();
    differ.checked_shr(low).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_addresses_and_ports_are_read() {
        for (text, within, without) in [
            ("10.0.0.0/8", "10.255.0.1:1", "11.0.0.0:1"),
            ("0.0.0.0/0", "8.8.8.8:53", "[::1]:53"),
            ("192.0.2.7", "192.0.2.7:9", "192.0.2.8:9"),
            ("192.0.2.7:443", "192.0.2.7:443", "192.0.2.7:80"),
            ("192.0.2.7:443", "[::ffff:192.0.2.7]:443", "[::ffff:192.0.2.7]:80"),
            ("[fd00::1]:443", "[fd00::1]:443", "[fd00::2]:443"),
            ("fd00::/8", "[fdff::1]:1", "[fe00::1]:1"),
            ("::/0", "[fdff::1]:1", "1.1.1.1:1"),
        ] {
            let denied = Denied::parse(text).unwrap();
            assert!(denied.covers(within.parse().unwrap()), "{text} {within}");
            assert!(!denied.covers(without.parse().unwrap()), "{text} {without}");
        }
        for bad in [
            "",
            "x",
            "10.0.0.0/33",
            "fd00::/129",
            "10.0.0.0/-1",
            "10.0.0.0/8:443",
            "host:443",
            "10.0.0",
        ] {
            assert!(Denied::parse(bad).is_err(), "{bad}");
        }
    }
}
