//! Where requests may go: named hosts over https, at public addresses, unless the manifest says otherwise.
//!
//! Every URL passes here, the first one as well as links and redirects, and every name that is resolved:
//! an API must not make a node ask its own network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use meshwork_engine::{Error, Result};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use super::spec::Api;

impl Api {
    /// Fails unless the manifest allows to ask this URL.
    pub(super) fn check(&self, url: &Url) -> Result<()> {
        let refused = |why: &str| {
            let host = url.host_str().unwrap_or_default();
            let what = format!("API \"{}\" led to {}://{host}, {why}", self.name, url.scheme());
            Err(Error::source("SOURCE_FORBIDDEN_ADDRESS", what))
        };
        match url.scheme() {
            "https" => {}
            "http" if self.allow_http => {}
            _ => return refused("which is not https"),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return refused("with a user in the address");
        }
        if !self.is_base_origin(url) && !self.is_allowed_host(url) {
            return refused("which is not in allowed_hosts");
        }
        let literal = match url.host() {
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            Some(Host::Domain(_)) | None => None,
        };
        match literal {
            Some(address) if !self.allow_private && !is_public(address) => {
                refused("which is a private address")
            }
            _ => Ok(()),
        }
    }

    /// Whether a URL is on the very host that credentials are for.
    pub(super) fn is_base_origin(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }

    fn is_allowed_host(&self, url: &Url) -> bool {
        let host = url.host_str().unwrap_or_default();
        match url.port() {
            None => self.allowed_hosts.contains(host),
            Some(port) => self.allowed_hosts.contains(&format!("{host}:{port}")),
        }
    }
}

/// Resolves names to public addresses only. A name with one private address is refused as a whole.
#[derive(Debug)]
pub(super) struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let resolved = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let addresses: Vec<SocketAddr> = resolved.collect();
            if addresses.iter().any(|address| !is_public(address.ip())) {
                return Err("the name leads to a private address".into());
            }
            let addresses: Addrs = Box::new(addresses.into_iter());
            Ok(addresses)
        })
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_broadcast()
        || address.is_documentation()
        || address.is_multicast();
    // This network, carrier NAT, protocol assignments, benchmarks, reserved.
    let reserved = a == 0
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (b == 18 || b == 19))
        || a >= 240;
    !special && !reserved
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    if let Some(mapped) = address.to_ipv4_mapped() {
        return is_public_v4(mapped);
    }
    let [a, b, c, d, e, f, g, h] = address.segments();
    let embedded = |high: u16, low: u16| {
        let ([w, x], [y, z]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(w, x, y, z))
    };
    match (a, b) {
        // Translated to IPv4 (NAT64, 6to4): as public as what is inside.
        (0x64, 0xff9b) if [c, d, e, f] == [0; 4] => embedded(g, h),
        (0x2002, _) => embedded(b, c),
        (0x2001, 0x0db8 | 0) => false,
        // Only global unicast addresses.
        _ => (a & 0xe000) == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::is_public;

    #[test]
    fn private_addresses_are_known_in_all_their_forms() {
        for private in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "192.0.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fc00::1",
            "fe80::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001:db8::1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
        for public in ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "64:ff9b::101:101"] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }
}
