//! The configuration: what a file may say, and what holds where it says nothing.
//!
//! Everything is checked as it is read, so that the rest of the program need not. `gateway.toml` beside this program
//! shows every key.

mod policy;
mod problem;
mod tls;
mod value;

use std::{collections::HashMap, net::SocketAddr, path::Path, time::Duration};

use buttress::{
    balance::{Budget, Levels, Queue},
    cluster::{Admin, Node, NodeId},
    forward::{Cidr, TrustedProxies, UpstreamBuilder},
};
use serde::Deserialize;
use toml::Spanned;

use self::value::{addr, parsed_list, ratio, some_addr, span};
pub(crate) use self::{
    policy::{Policy, RequestKey},
    problem::Problem,
    tls::Tls,
    value::{Addr, BaseUrl},
};

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
    pub(crate) tls: Option<Tls>,
    pub(crate) policy: Policy,
    pub(crate) timeouts: Timeouts,
    pub(crate) retries: Retries,
    queue: Option<QueueLimits>,
    levels: LevelShares,
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

/// When a request is sent once more, to another node.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Retries {
    /// On how many nodes a request is tried in all.
    pub(crate) tries: u32,
    /// How many retries there may be for each request, on average.
    #[serde(deserialize_with = "ratio")]
    budget: f64,
    /// How many there may be beyond that.
    burst: u32,
    /// How many bytes of a request's body are remembered for a second try.
    pub(crate) body_limit: usize,
}

/// Where requests wait while every node is full.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct QueueLimits {
    limit: usize,
    #[serde(deserialize_with = "span")]
    patience: Duration,
}

/// How priorities and zones divide the traffic: see [`Levels`].
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct LevelShares {
    zone: Option<String>,
    overprovisioning: u32,
    panic: u32,
}

/// A server behind the gateway.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Upstream {
    pub(crate) id: Spanned<NodeId>,
    pub(crate) url: BaseUrl,
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
        config.check(text, file)?;
        if let Some(tls) = &mut config.tls {
            let directory = Path::new(file).parent().unwrap_or(Path::new(""));
            tls.load(directory, text).map_err(|(span, message)| Problem::at(file, text, span, message))?;
        }
        Ok(config)
    }

    /// What no single value tells.
    fn check(&self, text: &str, file: &str) -> Result<(), Problem> {
        let wrong = |span, message| Err(Problem::at(file, text, Some(span), message));
        if let Some((span, message)) = self.policy.misfit() {
            return wrong(span, message);
        }
        if self.upstream.is_empty() {
            let message = "there is no upstream: name at least one, as [[upstream]] with `id` and `url`";
            return Err(Problem::at(file, text, None, message.to_owned()));
        }
        let mut first = HashMap::new();
        for Upstream { id, .. } in &self.upstream {
            if id.get_ref().as_str().is_empty() {
                return wrong(id.span(), "`id` is empty: give the upstream a name".to_owned());
            }
            if let Some(earlier) = first.insert(id.get_ref(), id.span()) {
                let line = problem::line_of(text, earlier.start);
                let message =
                    format!("`id` {:?} is taken since line {line}: give each upstream its own", id.get_ref());
                return wrong(id.span(), message);
            }
        }
        Ok(())
    }

    pub(crate) fn trusted(&self) -> TrustedProxies {
        self.trusted_proxies.iter().copied().collect()
    }

    pub(crate) fn queue(&self) -> Option<Queue> {
        self.queue.as_ref().map(|queue| Queue::new(queue.limit, queue.patience))
    }

    pub(crate) fn levels(&self) -> Levels {
        let LevelShares { zone, overprovisioning, panic } = &self.levels;
        let levels = Levels::default().overprovisioning(*overprovisioning).panic(*panic);
        match zone {
            Some(zone) => levels.zone(zone.as_str()),
            None => levels,
        }
    }

    /// What all upstreams have in common.
    pub(crate) fn upstreams(&self) -> UpstreamBuilder {
        let Timeouts { connect, response, idle, .. } = self.timeouts;
        buttress::forward::Upstream::builder()
            .connect_timeout(connect)
            .response_timeout(response)
            .idle_timeout(idle)
    }
}

impl Retries {
    pub(crate) fn budget(&self) -> Budget {
        Budget::new(self.budget, self.burst).expect("the ratio was checked when read")
    }
}

impl Upstream {
    /// An upstream that is named after its address.
    pub(crate) fn at(url: BaseUrl) -> Self {
        let name = url.as_str().split_once("://").map_or(url.as_str(), |(_, rest)| rest);
        Self::named(name.trim_end_matches('/').to_owned(), url)
    }

    pub(crate) fn named(name: impl Into<NodeId>, url: BaseUrl) -> Self {
        let id = Spanned::new(0..0, name.into());
        Self { id, url, weight: 1, zone: None, priority: 0, max_in_flight: 0, admin: Admin::Active }
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

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            admin: None,
            max_connections: 10_000,
            trusted_proxies: Vec::new(),
            tls: None,
            policy: Policy::default(),
            timeouts: Timeouts::default(),
            retries: Retries::default(),
            queue: None,
            levels: LevelShares::default(),
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

impl Default for Retries {
    fn default() -> Self {
        Self { tries: 3, budget: 0.2, burst: 50, body_limit: 64 * 1024 }
    }
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self { limit: 1000, patience: Duration::from_secs(1) }
    }
}

impl Default for LevelShares {
    fn default() -> Self {
        Self { zone: None, overprovisioning: 140, panic: 50 }
    }
}

fn one() -> u16 {
    1
}

#[cfg(test)]
mod tests;
