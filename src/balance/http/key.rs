//! What an HTTP request is about, for policies that hash.

use http::{HeaderName, Request};

use crate::{balance::KeyOf, forward::ClientAddr, placement::KeyHash};

/// The value of a header as the key: the same node for the same tenant, document or session.
///
/// For [`ConsistentHash`](crate::balance::ConsistentHash). A request without the header, or with several lines of it, has
/// no key. Where clients choose the value they can aim at one node: set a
/// [`load_bound`](crate::balance::ConsistentHash::load_bound).
///
/// ```
/// use buttress::{
///     balance::{Balance, ConsistentHash, http::ByHeader},
///     cluster::{Cluster, Node},
/// };
/// use http::HeaderName;
///
/// # fn main() -> Result<(), buttress::cluster::ClusterError> {
/// # let services = [(Node::new("a"), ()), (Node::new("b"), ())];
/// let cluster = Cluster::new(services)?;
/// let by_tenant = ByHeader(HeaderName::from_static("x-tenant"));
/// let balance = Balance::http(cluster, ConsistentHash::new().load_bound(125)).key(by_tenant);
/// # let _ = balance;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByHeader(pub HeaderName);

impl<B> KeyOf<Request<B>> for ByHeader {
    fn key(&self, request: &Request<B>) -> Option<KeyHash> {
        let mut lines = request.headers().get_all(&self.0).iter();
        let value = lines.next()?;
        lines.next().is_none().then(|| KeyHash::of(value.as_bytes()))
    }
}

/// The client's address as the key: the same node for the same client, or IPv6 network.
///
/// For [`IpHash`](crate::balance::IpHash). Reads the [`ClientAddr`] that the proxy in front puts among a request's
/// extensions, so the address is as true as that is, and makes the key with [`KeyHash::from_ip`]. A request without one
/// has no key.
///
/// ```
/// use buttress::{
///     balance::{Balance, IpHash, http::ByClientAddr},
///     cluster::{Cluster, Node},
/// };
///
/// # fn main() -> Result<(), buttress::cluster::ClusterError> {
/// # let services = [(Node::new("a"), ()), (Node::new("b"), ())];
/// let balance = Balance::http(Cluster::new(services)?, IpHash::new()).key(ByClientAddr);
/// # let _ = balance;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByClientAddr;

impl<B> KeyOf<Request<B>> for ByClientAddr {
    fn key(&self, request: &Request<B>) -> Option<KeyHash> {
        let ClientAddr(addr) = request.extensions().get()?;
        Some(KeyHash::from_ip(*addr))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_said_twice_is_no_key() {
        let by = ByHeader(HeaderName::from_static("x-tenant"));
        let request = |lines: &[&str]| {
            lines.iter().fold(Request::builder(), |r, line| r.header("x-tenant", *line)).body(()).unwrap()
        };
        assert_eq!(by.key(&request(&["acme"])), Some(KeyHash::of("acme")));
        assert_eq!(by.key(&request(&[])), None);
        assert_eq!(by.key(&request(&["acme", "acme"])), None);
    }

    #[test]
    fn clients_of_one_network_share_a_key() {
        let key = |addr: &str| {
            let mut request = Request::new(());
            request.extensions_mut().insert(ClientAddr(addr.parse().unwrap()));
            ByClientAddr.key(&request).unwrap()
        };
        assert_eq!(key("192.0.2.1"), key("::ffff:192.0.2.1"));
        assert_eq!(key("2001:db8::1"), key("2001:db8::2"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_eq!(ByClientAddr.key(&Request::new(())), None);
    }
}
