//! The servers behind the gateway, and how they are reached.

use std::{fmt, str::FromStr, time::Duration};

use buttress::{
    cluster::{Admin, Node, NodeId},
    forward::{
        self, UpstreamBuilder,
        proxy_protocol::Version,
        tcp::{TcpProxy, TcpUpstream},
    },
};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::{DEFAULT_CLUSTER, value::parsed};

/// A server behind the gateway.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Upstream {
    pub(crate) id: Spanned<NodeId>,
    pub(crate) url: Spanned<Url>,
    #[serde(default = "default_cluster")]
    pub(crate) cluster: Spanned<String>,
    #[serde(default = "one")]
    weight: u16,
    zone: Option<String>,
    #[serde(default)]
    priority: u8,
    /// 0 is no limit.
    #[serde(default)]
    max_in_flight: u32,
    #[serde(default)]
    admin: Admin,
    /// Whether to speak HTTP/2 without asking.
    #[serde(default)]
    pub(super) http2: Option<Spanned<bool>>,
    #[serde(default)]
    pub(super) proxy_protocol: Option<Spanned<HeaderVersion>>,
}

/// Where a server is, and whether it speaks HTTP or whatever clients speak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Url {
    Http(String),
    Tcp(String),
}

/// The version of the PROXY protocol that a server is told of its clients with.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeaderVersion(Version);

/// What all servers have in common.
#[derive(Clone, Debug)]
pub(crate) struct Reach {
    pub(crate) http: UpstreamBuilder,
    pub(crate) connect_timeout: Duration,
}

impl Reach {
    /// The HTTP server at this URL. Checked when read: `None` if it is none.
    pub(crate) fn http(&self, url: &Url, http2: bool) -> Option<forward::Upstream> {
        match url {
            Url::Http(url) => self.http.clone().http2(http2).build(url).ok(),
            Url::Tcp(_) => None,
        }
    }

    /// The TCP server at this URL, as above.
    pub(crate) fn tcp(&self, url: &Url, header: Option<Version>) -> Option<TcpUpstream> {
        match url {
            Url::Tcp(address) => {
                let server = TcpUpstream::new(address).ok()?;
                Some(server.connect_timeout(self.connect_timeout).proxy_protocol(header))
            }
            Url::Http(_) => None,
        }
    }
}

impl Upstream {
    /// An upstream that is named after its address.
    pub(crate) fn at(url: Url) -> Self {
        let text = url.to_string();
        let name = text.split_once("://").map_or(text.as_str(), |(_, rest)| rest);
        Self::named(name.trim_end_matches('/').to_owned(), url)
    }

    pub(crate) fn named(name: impl Into<NodeId>, url: Url) -> Self {
        Self {
            id: Spanned::new(0..0, name.into()),
            url: Spanned::new(0..0, url),
            cluster: default_cluster(),
            weight: 1,
            zone: None,
            priority: 0,
            max_in_flight: 0,
            admin: Admin::Active,
            http2: None,
            proxy_protocol: None,
        }
    }

    pub(crate) fn http2(&self) -> bool {
        self.http2.as_ref().is_some_and(|on| *on.get_ref())
    }

    /// With which version it is told of its clients.
    pub(crate) fn header(&self) -> Option<Version> {
        self.proxy_protocol.as_ref().map(|version| version.get_ref().0)
    }

    /// What the cluster is told of it.
    pub(crate) fn node(&self) -> Node {
        let node = Node::new(self.id.get_ref().clone())
            .weight(self.weight)
            .priority(self.priority)
            .admin(self.admin)
            .max_in_flight(self.max_in_flight);
        match &self.zone {
            Some(zone) => node.zone(zone.as_str()),
            None => node,
        }
    }
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(address) = text.strip_prefix("tcp://") {
            let wrong = |_| format!("{text:?} has no host and port: write it like tcp://10.0.0.7:5432");
            return TcpUpstream::new(address).map(|_| Self::Tcp(address.to_owned())).map_err(wrong);
        }
        let known = forward::Upstream::new(text);
        known.map(|_| Self::Http(text.to_owned())).map_err(|error| error.to_string())
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(url) => f.write_str(url),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

impl<'de> Deserialize<'de> for Url {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        parsed(from)
    }
}

impl FromStr for HeaderVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "v1" => Ok(Self(Version::V1)),
            "v2" => Ok(Self(Version::V2)),
            _ => Err(format!("{text:?} is no version of the PROXY protocol: write \"v1\" or \"v2\"")),
        }
    }
}

impl<'de> Deserialize<'de> for HeaderVersion {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        parsed(from)
    }
}

/// Where clients come in who do not speak HTTP.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tcp {
    #[serde(deserialize_with = "super::value::addr")]
    pub(crate) listen: std::net::SocketAddr,
    pub(crate) cluster: Spanned<String>,
    #[serde(default)]
    pub(super) proxy_protocol: Option<Spanned<bool>>,
    #[serde(default = "ten_thousand")]
    max_connections: usize,
    #[serde(default = "ten_minutes", deserialize_with = "super::value::span")]
    idle_timeout: Duration,
    #[serde(default = "one_minute", deserialize_with = "super::value::span")]
    half_close_timeout: Duration,
}

impl Tcp {
    /// Whether proxies in front say whose connections they pass on.
    pub(crate) fn is_told(&self) -> bool {
        self.proxy_protocol.as_ref().is_some_and(|on| *on.get_ref())
    }

    /// What passes connections on to where `connect` leads.
    pub(crate) fn proxy<S>(&self, connect: S) -> TcpProxy<S> {
        TcpProxy::new(connect)
            .max_connections(self.max_connections)
            .idle_timeout(self.idle_timeout)
            .half_close_timeout(self.half_close_timeout)
    }
}

fn one() -> u16 {
    1
}

fn ten_thousand() -> usize {
    10_000
}

fn ten_minutes() -> Duration {
    Duration::from_secs(600)
}

fn one_minute() -> Duration {
    Duration::from_secs(60)
}

pub(super) fn default_cluster() -> Spanned<String> {
    Spanned::new(0..0, DEFAULT_CLUSTER.to_owned())
}
