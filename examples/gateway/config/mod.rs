//! The configuration: what a file may say, and what holds where it says nothing.
//!
//! Everything is checked as it is read, so that the rest of the program need not. `gateway.toml` beside this program
//! shows every key.

mod check;
mod cluster;
mod health;
mod overload;
mod policy;
mod problem;
mod retries;
mod route;
mod sticky;
mod tls;
mod upstream;
mod value;

use std::{collections::BTreeMap, net::SocketAddr, path::Path, time::Duration};

use buttress::{
    forward::{Cidr, TrustedProxies, proxy_protocol::Receiver},
    route::Routes,
};
use serde::Deserialize;
use toml::Spanned;

pub(crate) use self::{
    cluster::Settings,
    health::{Check, Health},
    overload::Overload,
    policy::{Policy, RequestKey},
    problem::Problem,
    tls::Tls,
    upstream::{Reach, Tcp, Upstream, Url},
    value::Addr,
};
use self::{
    cluster::{LevelShares, Overrides, QueueLimits},
    health::{Outlier, Warmup},
    retries::Retries,
    route::Route,
    sticky::Sticky,
    value::{addr, parsed_list, some_addr, span},
};
use crate::priority::Rank;

/// The cluster of those upstreams that name none, and of requests that no route is for.
pub(crate) const DEFAULT_CLUSTER: &str = "default";

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    #[serde(deserialize_with = "addr")]
    pub(crate) listen: SocketAddr,
    #[serde(deserialize_with = "some_addr")]
    pub(crate) admin: Option<SocketAddr>,
    /// How many clients may be connected at once.
    pub(crate) max_connections: u32,
    /// Whose word on where a request came from is believed.
    #[serde(deserialize_with = "parsed_list")]
    trusted_proxies: Vec<Cidr>,
    /// Whether these say so with the PROXY protocol.
    proxy_protocol: Option<Spanned<bool>>,
    pub(crate) tls: Option<Tls>,
    pub(crate) timeouts: Timeouts,
    /// The tables from here to `overload` hold for every cluster that has none of its own.
    pub(crate) policy: Policy,
    retries: Retries,
    queue: Option<QueueLimits>,
    levels: LevelShares,
    pub(crate) health: Option<Health>,
    outlier: Outlier,
    slow_start: Warmup,
    sticky: Option<Sticky>,
    overload: Option<Overload>,
    cluster: BTreeMap<Spanned<String>, Overrides>,
    route: Vec<Spanned<Route>>,
    pub(crate) tcp: Vec<Tcp>,
    pub(crate) upstream: Vec<Upstream>,
}

/// How long the gateway waits, and for what.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Timeouts {
    /// For a connection to an upstream.
    #[serde(deserialize_with = "span")]
    connect: Duration,
    /// For an upstream that neither takes nor gives anything, up to the head of its answer.
    #[serde(deserialize_with = "span")]
    response: Duration,
    /// For the next request on a connection to an upstream.
    #[serde(deserialize_with = "span")]
    idle: Duration,
    /// For the TLS handshake of a client.
    #[serde(deserialize_with = "span")]
    pub(crate) handshake: Duration,
    /// For the head of a client's request, and so also for the next one on its connection.
    #[serde(deserialize_with = "span")]
    pub(crate) head: Duration,
    /// For what is in flight when the gateway is told to stop.
    #[serde(deserialize_with = "span")]
    pub(crate) drain: Duration,
}

impl Config {
    /// Reads a file.
    pub(crate) fn read(file: &Path) -> Result<Self, Problem> {
        let text = std::fs::read_to_string(file).map_err(|error| Problem::unreadable(file, &error))?;
        Self::parse(&text, &file.display().to_string())
    }

    /// Reads the text of a file of this name.
    pub(crate) fn parse(text: &str, file: &str) -> Result<Self, Problem> {
        let mut config: Self = toml::from_str(text)
            .map_err(|error| Problem::at(file, text, error.span(), error.message().to_owned()))?;
        let directory = Path::new(file).parent().unwrap_or(Path::new(""));
        let checked = config.check(text).and_then(|()| config.load(directory, text));
        checked.map_err(|(span, message)| Problem::at(file, text, span, message))?;
        Ok(config)
    }

    /// The names of the clusters, in the order in which they first occur.
    pub(crate) fn clusters(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for Upstream { cluster, .. } in &self.upstream {
            if !names.contains(&cluster.get_ref().as_str()) {
                names.push(cluster.get_ref().as_str());
            }
        }
        names
    }

    /// The nodes of a cluster.
    pub(crate) fn nodes(&self, cluster: &str) -> impl Iterator<Item = &Upstream> {
        self.upstream.iter().filter(move |upstream| upstream.cluster.get_ref() == cluster)
    }

    /// Whether the nodes of a cluster are passed connections, and not requests. All of them, or none: that was checked.
    pub(crate) fn is_tcp(&self, cluster: &str) -> bool {
        self.nodes(cluster).any(|node| matches!(node.url.get_ref(), Url::Tcp(_)))
    }

    /// The table of routes, with what `target` finds for each cluster and the priority of the route.
    pub(crate) fn routes<T>(&self, target: impl Fn(&str, Option<Rank>) -> T) -> Routes<T> {
        let routes = route::table(&self.route, &target).expect("the routes were checked when read");
        let has_default = self.nodes(DEFAULT_CLUSTER).next().is_some() && !self.is_tcp(DEFAULT_CLUSTER);
        if has_default { routes.fallback(target(DEFAULT_CLUSTER, None)) } else { routes }
    }

    pub(crate) fn trusted(&self) -> TrustedProxies {
        self.trusted_proxies.iter().copied().collect()
    }

    /// What asks proxies in front whose connections they pass on, if they say so.
    pub(crate) fn receiver(&self) -> Option<Receiver> {
        let is_on = self.proxy_protocol.as_ref().is_some_and(|on| *on.get_ref());
        is_on.then(|| Receiver::new(self.trusted()))
    }

    /// What all upstreams have in common.
    pub(crate) fn reach(&self) -> Reach {
        let Timeouts { connect, response, idle, .. } = self.timeouts;
        let http = buttress::forward::Upstream::builder()
            .connect_timeout(connect)
            .response_timeout(response)
            .idle_timeout(idle);
        Reach { http, connect_timeout: connect }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            admin: None,
            max_connections: 10_000,
            trusted_proxies: Vec::new(),
            proxy_protocol: None,
            tls: None,
            timeouts: Timeouts::default(),
            policy: Policy::default(),
            retries: Retries::default(),
            queue: None,
            levels: LevelShares::default(),
            health: None,
            outlier: Outlier::default(),
            slow_start: Warmup::default(),
            sticky: None,
            overload: None,
            cluster: BTreeMap::new(),
            route: Vec::new(),
            tcp: Vec::new(),
            upstream: Vec::new(),
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            connect: seconds(2),
            response: seconds(60),
            idle: seconds(50),
            handshake: seconds(10),
            head: seconds(60),
            drain: seconds(30),
        }
    }
}

#[cfg(test)]
mod tests;
