//! Decides which addresses a delivery may be sent to.
//!
//! Refused is whatever the IANA special-purpose registries do not call globally reachable, multicast, a few addresses
//! of clouds and old relays, and the IPv6 forms that embed a refused IPv4 address as far as they can be told from
//! ordinary addresses (`refused_embedding` says how far). The operator opens networks with
//! `[network] allow_networks`, closes others with `deny_networks`, and may name the only `ports`.
//!
//! Pure: it sees addresses only. The connector asks it for every socket that it is about to open, after resolution and
//! for literals too; a name or a spelling is never judged.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Which addresses may be dialled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Guard {
    allow: Vec<IpNet>,
    deny: Vec<IpNet>,
    ports: Vec<u16>,
    off: bool,
}

/// An address that may not be dialled, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{address} is {why}")]
pub struct Refused {
    /// The address as it would have been dialled.
    pub address: IpAddr,
    /// What kind of address it is, as the end of a sentence.
    pub why: &'static str,
}

/// A port that connections may not go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is none of [network] ports")]
pub struct RefusedPort(pub u16);

/// The refused IPv4 networks: address, prefix length, what it is.
const REFUSED_V4: [([u8; 4], u8, &str); 16] = [
    ([0, 0, 0, 0], 8, "of this network (0.0.0.0/8)"),
    ([10, 0, 0, 0], 8, "private (10.0.0.0/8)"),
    ([100, 64, 0, 0], 10, "shared by carriers (100.64.0.0/10)"),
    ([127, 0, 0, 0], 8, "loopback (127.0.0.0/8)"),
    ([168, 63, 129, 16], 32, "a cloud's own service (168.63.129.16)"),
    ([169, 254, 0, 0], 16, "link-local (169.254.0.0/16)"),
    ([172, 16, 0, 0], 12, "private (172.16.0.0/12)"),
    ([192, 0, 0, 0], 24, "reserved for protocols (192.0.0.0/24)"),
    ([192, 0, 2, 0], 24, "for documentation (192.0.2.0/24)"),
    ([192, 88, 99, 0], 24, "of the old 6to4 relays (192.88.99.0/24)"),
    ([192, 168, 0, 0], 16, "private (192.168.0.0/16)"),
    ([198, 18, 0, 0], 15, "for benchmarks (198.18.0.0/15)"),
    ([198, 51, 100, 0], 24, "for documentation (198.51.100.0/24)"),
    ([203, 0, 113, 0], 24, "for documentation (203.0.113.0/24)"),
    ([224, 0, 0, 0], 4, "multicast (224.0.0.0/4)"),
    ([240, 0, 0, 0], 4, "reserved (240.0.0.0/4)"),
];

/// The refused IPv6 networks within 2000::/3; what lies outside is refused as a whole but for the well-known NAT64.
const REFUSED_V6: [([u16; 3], u8, &str); 4] = [
    ([0x2001, 0, 0], 23, "reserved for protocols (2001::/23)"),
    ([0x2001, 0xdb8, 0], 32, "for documentation (2001:db8::/32)"),
    ([0x2002, 0, 0], 16, "of the old 6to4 (2002::/16)"),
    ([0x3fff, 0, 0], 20, "for documentation (3fff::/20)"),
];

impl Guard {
    /// A guard that also lets these networks through.
    ///
    /// An IPv4 network opens the IPv4-mapped spelling of its addresses too; other IPv6 forms that embed an IPv4 address
    /// are opened by an IPv6 network only.
    #[must_use]
    pub const fn allowing(networks: Vec<IpNet>) -> Self {
        Self { allow: networks, deny: Vec::new(), ports: Vec::new(), off: false }
    }

    /// The same, which lets none of these networks through, whatever else it allows.
    ///
    /// An IPv4 network closes the IPv6 forms that embed one of its addresses too, as far as they can be told.
    #[must_use]
    pub fn denying(self, networks: Vec<IpNet>) -> Self {
        Self { deny: networks, ..self }
    }

    /// The same for these ports only; none: for any.
    #[must_use]
    pub fn at_ports(self, ports: Vec<u16>) -> Self {
        Self { ports, ..self }
    }

    /// A guard that lets everything through: for clients that dial what their own user named, such as a command line.
    #[must_use]
    pub const fn off() -> Self {
        Self { allow: Vec::new(), deny: Vec::new(), ports: Vec::new(), off: true }
    }

    /// Whether `address` may be dialled.
    ///
    /// # Errors
    /// [`Refused`] says what kind of address it is.
    pub fn check(&self, address: IpAddr) -> Result<(), Refused> {
        if self.off {
            return Ok(());
        }
        if self.is_denied(address) {
            return Err(Refused { address, why: "in [network] deny_networks" });
        }
        if self.is_allowed(address) {
            return Ok(());
        }
        let why = match address {
            IpAddr::V4(v4) => refused_v4(v4),
            IpAddr::V6(v6) => refused_v6(v6),
        };
        why.map_or(Ok(()), |why| Err(Refused { address, why }))
    }

    /// Whether a connection may go to this port.
    ///
    /// # Errors
    /// [`RefusedPort`] where it is none of those that are named.
    pub fn check_port(&self, port: u16) -> Result<(), RefusedPort> {
        if self.off || self.ports.is_empty() || self.ports.contains(&port) { Ok(()) } else { Err(RefusedPort(port)) }
    }

    fn is_denied(&self, address: IpAddr) -> bool {
        let within = |address: IpAddr| self.deny.iter().any(|net| net.contains(&address));
        if self.deny.is_empty() {
            return false;
        }
        let embedded = match address {
            IpAddr::V4(_) => Vec::new(),
            IpAddr::V6(v6) => embedded(v6),
        };
        within(address) || embedded.into_iter().any(|v4| within(IpAddr::V4(v4)))
    }

    fn is_allowed(&self, address: IpAddr) -> bool {
        let mapped = match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(v6) => v6.to_ipv4_mapped().map(IpAddr::V4),
        };
        self.allow.iter().any(|net| net.contains(&address) || mapped.is_some_and(|v4| net.contains(&v4)))
    }
}

fn refused_v4(address: Ipv4Addr) -> Option<&'static str> {
    REFUSED_V4
        .iter()
        .find(|(net, bits, _)| Ipv4Net::new((*net).into(), *bits).is_ok_and(|net| net.contains(&address)))
        .map(|(_, _, why)| *why)
}

fn refused_v6(address: Ipv6Addr) -> Option<&'static str> {
    let s = address.segments();
    let named = if address.is_loopback() {
        Some("loopback (::1)")
    } else if address.is_unspecified() {
        Some("unspecified (::)")
    } else if s[0] & 0xff00 == 0xff00 {
        Some("multicast (ff00::/8)")
    } else if s[0] & 0xffc0 == 0xfe80 {
        Some("link-local (fe80::/10)")
    } else if s[0] & 0xffc0 == 0xfec0 {
        Some("site-local (fec0::/10)")
    } else if s[0] & 0xfe00 == 0xfc00 {
        Some("private (fc00::/7)")
    } else if address.to_ipv4_mapped().is_some() {
        Some("an IPv4 address in IPv6 clothes (::ffff:0:0/96)")
    } else if s[..6] == [0x64, 0xff9b, 0, 0, 0, 0] {
        // The one globally reachable network outside of 2000::/3; what counts is whom it leads to.
        return refused_v4(v4(s[6], s[7])).map(|_| "NAT64 to a refused IPv4 address (64:ff9b::/96)");
    } else if s[0] & 0xe000 != 0x2000 {
        Some("not global unicast (outside of 2000::/3)")
    } else {
        None
    };
    named.or_else(|| refused_network(address)).or_else(|| refused_embedding(address))
}

fn refused_network(address: Ipv6Addr) -> Option<&'static str> {
    REFUSED_V6
        .iter()
        .find(|([a, b, c], bits, _)| {
            let net = Ipv6Addr::new(*a, *b, *c, 0, 0, 0, 0, 0);
            Ipv6Net::new(net, *bits).is_ok_and(|net| net.contains(&address))
        })
        .map(|(_, _, why)| *why)
}

/// The forms that embed an IPv4 address under a prefix of anybody's: ISATAP (RFC 5214), and NAT64 and SIIT (RFC 6052)
/// with prefixes of 32, 40, 48, 56, 64 and 96 bits.
///
/// The latter are only told from other addresses by the octet from bit 64, which RFC 6052 wants to be zero, and by what
/// lies behind it. So three kinds pass, since ordinary addresses look the same and would be refused by the many: the
/// embedded 0.0.0.0/8 (`2001:4860::8888`), which no translator passes on; under a prefix of 32 to 56 bits one whose octets
/// behind bit 64 are all zero, where a suffix that is not zero follows (`2a01:4f8:10a::2`), though translators ignore
/// suffixes; and under one of 96 bits an interface identifier that was made of a hardware address (`ff:fe` in its middle),
/// which would lead to 254.0.0.0/8, where nobody is.
fn refused_embedding(address: Ipv6Addr) -> Option<&'static str> {
    if isatap(address).is_some_and(|v4| refused_v4(v4).is_some()) {
        return Some("ISATAP to a refused IPv4 address");
    }
    translated(address)
        .any(|v4| v4.octets()[0] != 0 && refused_v4(v4).is_some())
        .then_some("NAT64 or SIIT to a refused IPv4 address")
}

fn isatap(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let o = address.octets();
    ((o[8] & 0xfc, o[9], o[10], o[11]) == (0, 0, 0x5e, 0xfe)).then(|| Ipv4Addr::new(o[12], o[13], o[14], o[15]))
}

/// What RFC 6052 would read an address as, under a prefix of each length.
fn translated(address: Ipv6Addr) -> impl Iterator<Item = Ipv4Addr> {
    let o = address.octets();
    // Whether a part of the address lies behind bit 64, up to there, or else nothing but zeros follows.
    let told = |end: usize| o[9..end].iter().any(|b| *b != 0) || o[end..].iter().all(|b| *b == 0);
    let of_hardware = (o[11], o[12]) == (0xff, 0xfe);
    let embedded = [
        (told(9), [o[4], o[5], o[6], o[7]]),
        (told(10), [o[5], o[6], o[7], o[9]]),
        (told(11), [o[6], o[7], o[9], o[10]]),
        (told(12), [o[7], o[9], o[10], o[11]]),
        (true, [o[9], o[10], o[11], o[12]]),
        // Under a /96 what is before the address belongs to the prefix.
        (!of_hardware, [o[12], o[13], o[14], o[15]]),
    ];
    // SIIT ends a prefix of 96 bits in `ffff:0` (RFC 2765).
    let siit = (o[8..12] == [0xff, 0xff, 0, 0]).then(|| [o[12], o[13], o[14], o[15]]);
    let read = embedded.into_iter().filter(move |(form, _)| o[8] == 0 && *form).map(|(_, v4)| v4);
    read.chain(siit).map(Ipv4Addr::from)
}

/// Every IPv4 address that an IPv6 one may lead to.
fn embedded(address: Ipv6Addr) -> Vec<Ipv4Addr> {
    let s = address.segments();
    let six_to_four = (s[0] == 0x2002).then(|| v4(s[1], s[2]));
    // Teredo: the server, and the client with its bits turned (RFC 4380).
    let teredo = (s[..2] == [0x2001, 0]).then(|| [v4(s[2], s[3]), v4(!s[6], !s[7])]);
    let mut all: Vec<Ipv4Addr> = six_to_four.into_iter().chain(teredo.into_iter().flatten()).collect();
    all.extend(address.to_ipv4_mapped().into_iter().chain(isatap(address)));
    all.extend(translated(address).filter(|v4| v4.octets()[0] != 0));
    all
}

fn v4(high: u16, low: u16) -> Ipv4Addr {
    let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
    Ipv4Addr::new(a, b, c, d)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> bool {
        Guard::default().check(text.parse().unwrap()).is_err()
    }

    #[test]
    fn what_is_not_globally_reachable_is_refused() {
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.250",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:0:127.0.0.1",
            "::ffff:0:8.8.8.8",
            "64:ff9b::10.0.0.1",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::1",
            "64:ff9b:1:a00:0:100::",
            "100::1",
            "2001::1",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            "2001:2::1",
            "2001:10::1",
            "2001:20::1",
            "2001:1ff::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "2002:808:808::1",
            "3fff::1",
            "5f00::1",
            "4000::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "feff::1",
            "ff02::1",
            "ff0e::1",
        ] {
            assert!(refused(text), "{text}");
        }
    }

    #[test]
    fn a_refused_ipv4_is_found_under_any_prefix() {
        for text in [
            "2a00:1450::5efe:10.0.0.1",
            "2a00:1450::200:5efe:127.0.0.1",
            "2a00:1450:1:2:300:5efe:a00:1",
            "2a00:1450:0a00:0001::",
            "2a00:1450:010a:0000:0001::",
            "2a00:1450:1:7f00:0:100::",
            "2a00:1450:1:27f:0:1::",
            "2a00:1450:1:2:7f:0:100:0",
            "2a00:1450:1:2::169.254.169.254",
            "2a00:1450:1:2:ffff:0:192.168.0.1",
            "2a00:1450::ac10:1",
            // Whatever the rest of a /96 is, and whatever suffix translators ignore.
            "2001:67c:2b0:db32:0:1:a9fe:a9fe",
            "2a00:1450:1:2:34:5678:7f00:1",
            "2a00:1450:1:2:7f:0:100:1",
            "2a00:1450:1:27f:0:1:8000:1",
            "2a00:1450:1:7f00:0:100:1:1",
            "2a00:1450:17f:0:1::1",
        ] {
            assert!(refused(text), "{text}");
        }
    }

    #[test]
    fn what_is_globally_reachable_is_let_through() {
        for text in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.1",
            "168.63.129.17",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.1",
            "192.31.196.1",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "64:ff9b::8.8.8.8",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2606:4700::6810:84e5",
            "2620:fe::fe",
            "2a00:1450:4001:80b::200e",
            "2a02:26f0:1:2:216:3eff:fe12:3456",
            "2a00:1450::5efe:8.8.8.8",
            "2a00:1450:1:2::8.8.8.8",
            "2400:cb00:2048:1::c629:d7a2",
            "2a01:4f8:10a:1234::2",
            "2600:1f18:e0ff:a00::1",
            "2a01:4f8:1:20a::2",
            "2001:4802:7801:102:be76:4eff:fe20:789b",
            "2a00:1450:1:2:42:acff:fe11:2",
        ] {
            assert!(!refused(text), "{text}");
        }
    }

    #[test]
    fn an_allowed_network_opens_exactly_itself_and_its_mapped_spelling() {
        let guard = Guard::allowing(vec!["127.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]);
        let check = |text: &str| guard.check(text.parse().unwrap()).is_ok();
        assert!(check("127.0.0.1") && check("::ffff:127.9.9.9") && check("fd00::5"));
        assert!(!check("10.0.0.1") && !check("::1") && !check("64:ff9b::127.0.0.1") && !check("fc00::1"));
        assert!(Guard::off().check("10.0.0.1".parse().unwrap()).is_ok());
    }

    #[test]
    fn a_denied_network_is_closed_in_every_form_whatever_is_allowed() {
        let read = |nets: &[&str]| nets.iter().map(|net| net.parse().unwrap()).collect::<Vec<IpNet>>();
        let guard =
            Guard::allowing(read(&["10.0.0.0/8", "::/0"])).denying(read(&["10.1.0.0/16", "8.8.8.0/24", "2a00::/16"]));
        let check = |text: &str| guard.check(text.parse().unwrap());
        for text in [
            "10.1.2.3",
            "8.8.8.8",
            "::ffff:10.1.2.3",
            "::10.1.2.3",
            "::ffff:0:10.1.2.3",
            "64:ff9b::8.8.8.8",
            "64:ff9b:1::10.1.2.3",
            "2002:0a01:0203::",
            "2001:0:4136:e378:8000:63bf:f5fe:fdfc",
            "2001:0:808:808::",
            "2606::5efe:8.8.8.8",
            "2606:4700:808:808::",
            "2606:4700:108:808:8::",
            "2606:4700:1:808:8:800::",
            "2606:4700:1:208:8:808::",
            "2606:4700:1:2:8:808:800:0",
            "2606:4700:1:2::8.8.8.8",
            "2a00:1450::1",
        ] {
            assert_eq!(check(text).unwrap_err().why, "in [network] deny_networks", "{text}");
        }
        for text in ["10.2.0.1", "8.8.4.4", "2606:4700::1111", "2002:0a02:0203::", "::1"] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn ports_are_any_unless_some_are_named() {
        assert!(Guard::default().check_port(25).is_ok());
        let guard = Guard::default().at_ports(vec![443, 8443]);
        assert!(guard.check_port(443).is_ok() && guard.check_port(8443).is_ok());
        assert_eq!(guard.check_port(25).unwrap_err().to_string(), "25 is none of [network] ports");
    }

    #[test]
    fn a_refusal_names_the_address_and_the_kind() {
        let refused = Guard::default().check("169.254.169.254".parse().unwrap()).unwrap_err();
        assert_eq!(refused.to_string(), "169.254.169.254 is link-local (169.254.0.0/16)");
    }
}
