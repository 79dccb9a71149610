//! Addresses of brokers as users write them.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, ToSocketAddrs};

use super::ClientError;

/// Kafka's port.
const DEFAULT_PORT: u16 = 9092;

/// Host and port of a broker as a user writes it; brackets around an IPv6 address are not the
/// host's.
pub(super) fn split(address: &str) -> Result<(&str, u16), ClientError> {
    let parts = || {
        let (host, port) = match address.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']')?;
                (
                    host,
                    if port.is_empty() {
                        None
                    } else {
                        Some(port.strip_prefix(':')?)
                    },
                )
            }
            None if address.parse::<Ipv6Addr>().is_ok() => (address, None),
            None => match address.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (address, None),
            },
        };
        let port = port.map_or(Ok(DEFAULT_PORT), str::parse).ok()?;
        let is_host = !host.is_empty() && !host.contains([' ', '/', ',']);
        is_host.then_some((host, port))
    };
    parts().ok_or_else(|| ClientError::Address {
        address: address.to_owned(),
    })
}

/// What a host's name stands for.
pub(super) fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let addresses: Vec<_> = (host, port).to_socket_addrs()?.collect();
    if addresses.is_empty() {
        return Err(io::Error::other("resolves to nothing"));
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_need_no_port() {
        let split = |address| split(address).ok();
        assert_eq!(split("host:1"), Some(("host", 1)));
        assert_eq!(split("127.0.0.1"), Some(("127.0.0.1", 9092)));
        assert_eq!(split("[::1]:1"), Some(("::1", 1)));
        assert_eq!(split("[::1]"), Some(("::1", 9092)));
        assert_eq!(split("::1"), Some(("::1", 9092)));
        for bad in [
            "",
            ":1",
            "host:",
            "host:99999",
            "[::1",
            "[::1]1",
            "a b",
            "a://b",
        ] {
            assert_eq!(split(bad), None, "{bad}");
        }
    }
}
