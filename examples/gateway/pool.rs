//! A cluster with all that looks after it: health checks, outlier detection, and what counts its requests.

use std::{
    collections::HashMap,
    fmt::Display,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use buttress::{
    cluster::{Cluster, Endpoint, Member, Node, NodeId},
    forward::{self, TrustedProxies, proxy_protocol::Version, tcp::TcpUpstream},
    health::{Ejections, HealthCheck, HttpCheck, Monitor, OutlierDetection, TcpCheck},
    overload::{self, Fixed, LimitLayer, Limiter, Queue},
    sticky::Pins,
};
use hyper::{Uri, http::uri::Scheme};

use crate::{
    Failure,
    config::{self, Check, Config, Overload, Reach, Settings, Url},
    stack::Limits,
};

/// How a server is reached, and how it is asked whether it is well.
pub(crate) trait Server: Clone + Send + Sync + 'static {
    /// `None` if such a server is not at this kind of URL.
    fn at(url: &Url, manner: Manner, reach: &Reach) -> Option<Self>;

    /// Where it is.
    fn url(&self) -> String;

    fn check(check: &Check) -> Arc<dyn HealthCheck<Self>>;
}

/// What one server wants that others may not.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Manner {
    http2: bool,
    header: Option<Version>,
}

impl Server for forward::Upstream {
    fn at(url: &Url, manner: Manner, reach: &Reach) -> Option<Self> {
        reach.http(url, manner.http2)
    }

    fn url(&self) -> String {
        self.to_string()
    }

    fn check(check: &Check) -> Arc<dyn HealthCheck<Self>> {
        match check {
            Check::Http(check) => Arc::new(HttpCheck::clone(check)),
            Check::Grpc(check) => Arc::new(check.clone()),
            Check::Tcp => Arc::new(TcpCheck::new(|endpoint: &Endpoint<Self>| address(&endpoint.service))),
        }
    }
}

impl Server for TcpUpstream {
    fn at(url: &Url, manner: Manner, reach: &Reach) -> Option<Self> {
        reach.tcp(url, manner.header)
    }

    fn url(&self) -> String {
        format!("tcp://{self}")
    }

    /// There is nothing to ask for but a connection.
    fn check(_: &Check) -> Arc<dyn HealthCheck<Self>> {
        Arc::new(TcpCheck::new(|endpoint: &Endpoint<Self>| endpoint.service.to_string()))
    }
}

/// Host and port of a server.
fn address(server: &forward::Upstream) -> String {
    let uri: Uri = server.to_string().parse().unwrap_or_default();
    let port = if uri.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
    format!("{}:{}", uri.host().unwrap_or_default(), uri.port_u16().unwrap_or(port))
}

/// A cluster with what looks after it.
pub(crate) struct Pool<S> {
    pub(crate) name: String,
    pub(crate) cluster: Cluster<S>,
    policy: String,
    reach: Reach,
    /// What the nodes of the configuration want, wherever they are.
    manners: HashMap<NodeId, Manner>,
    monitor: Option<Monitor>,
    ejections: Option<Ejections>,
    /// How many requests it is asked to do at once.
    limiter: Option<Limiter>,
    /// Held from the look at a node to its change.
    one_at_a_time: Mutex<()>,
}

impl<S: Server> Pool<S> {
    /// The cluster of this name. Its nodes are looked after from now on.
    pub(crate) fn start(name: &str, config: &Config) -> Result<Self, Failure> {
        let (settings, reach) = (config.settings(name), config.reach());
        let wrong =
            |error: &dyn Display| Failure::Cluster { name: name.to_owned(), reason: error.to_string() };
        let manner =
            |upstream: &config::Upstream| Manner { http2: upstream.http2(), header: upstream.header() };
        let server = |upstream: &config::Upstream| {
            let server = S::at(upstream.url.get_ref(), manner(upstream), &reach)?;
            Some((upstream.node(), server))
        };
        let mut cluster = Cluster::builder();
        if let Some(slow_start) = settings.slow_start.slow_start() {
            cluster = cluster.slow_start(slow_start);
        }
        let cluster = cluster.build(config.nodes(name).filter_map(server)).map_err(|error| wrong(&error))?;
        let watch = |detection: OutlierDetection| detection.watch(&cluster);
        let ejections = settings.outlier.detection().map(watch).transpose();
        let monitor = settings.health.map(|health| health.monitor().start(&cluster, S::check(&health.check)));
        Ok(Self {
            name: name.to_owned(),
            policy: settings.policy.to_string(),
            manners: config.nodes(name).map(|node| (node.id.get_ref().clone(), manner(node))).collect(),
            reach,
            ejections: ejections.map_err(|error| wrong(&format_args!("[outlier] {error}")))?,
            monitor: monitor.transpose().map_err(|error| wrong(&format_args!("[health] {error}")))?,
            cluster,
            limiter: None,
            one_at_a_time: Mutex::default(),
        })
    }
}

impl Pool<forward::Upstream> {
    /// What admits requests to it: everything, unless that is limited.
    pub(crate) fn limit(&mut self, settings: &Settings<'_>, trusted: TrustedProxies) -> Limits {
        self.limiter = settings.overload.map(Overload::limiter);
        let unlimited = || Limiter::new(Fixed::new(usize::MAX).expect("it is not 0"), Queue::none());
        let matters = settings.overload.map(|overload| overload.matters(trusted));
        let limiter = self.limiter.clone().unwrap_or_else(unlimited);
        LimitLayer::http(limiter).terms(matters.unwrap_or_default())
    }

    /// Which client belongs to which of its nodes, if they are to be kept together.
    pub(crate) fn pins(&self, settings: &Settings<'_>) -> Result<Option<Pins>, Failure> {
        let pins = settings.sticky.map(|sticky| sticky.pins(&self.name, &self.cluster)).transpose();
        pins.map(Option::flatten).map_err(|reason| Failure::Cluster { name: self.name.clone(), reason })
    }
}

/// A node, and what its keepers say of it.
pub(crate) struct Seen {
    pub(crate) member: Arc<Member>,
    pub(crate) url: String,
    /// Why the last check failed, if it did.
    pub(crate) complaint: Option<String>,
    /// Why it is ejected, and for how long from now.
    pub(crate) ejected: Option<(String, Duration)>,
}

/// What can be seen of a pool and done to it, whatever its nodes speak.
pub(crate) trait Nodes: Send + Sync {
    fn name(&self) -> &str;

    fn policy(&self) -> &str;

    /// How the limit of its requests is doing, if there is one.
    fn load(&self) -> Option<overload::Status>;

    /// The nodes, in the order of the cluster.
    fn look(&self) -> Vec<Seen>;

    fn has(&self, id: &NodeId) -> bool;

    /// Changes a node, or adds it if there is a URL. True if it is new.
    fn change(&self, id: &NodeId, url: Option<&Url>, change: &dyn Fn(Node) -> Node) -> Result<bool, String>;

    /// Takes a node out. False if there is none.
    fn remove(&self, id: &NodeId) -> bool;

    /// Lets an ejected node back in. False if it was not ejected.
    fn readmit(&self, id: &NodeId) -> bool;
}

impl<S: Server> Nodes for Pool<S> {
    fn name(&self) -> &str {
        &self.name
    }

    fn policy(&self) -> &str {
        &self.policy
    }

    fn load(&self) -> Option<overload::Status> {
        self.limiter.as_ref().map(Limiter::status)
    }

    fn look(&self) -> Vec<Seen> {
        let reports = self.monitor.iter().flat_map(Monitor::report);
        let mut complaints: HashMap<_, _> =
            reports.filter_map(|report| Some((report.id, report.last?.err()?.reason().to_owned()))).collect();
        let ejections = self.ejections.iter().flat_map(Ejections::list);
        let mut ejected: HashMap<_, _> =
            ejections.map(|ejection| (ejection.node, (ejection.cause.to_string(), ejection.left))).collect();
        let seen = |endpoint: &Arc<Endpoint<S>>| {
            let (member, id) = (Arc::clone(&endpoint.member), &endpoint.member.node.id);
            let (complaint, ejected) = (complaints.remove(id), ejected.remove(id));
            Seen { member, url: endpoint.service.url(), complaint, ejected }
        };
        self.cluster.load().endpoints().iter().map(seen).collect()
    }

    fn has(&self, id: &NodeId) -> bool {
        self.cluster.get(id.clone()).is_some()
    }

    fn change(&self, id: &NodeId, url: Option<&Url>, change: &dyn Fn(Node) -> Node) -> Result<bool, String> {
        let _alone = self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.cluster.get(id.clone());
        let server = match (url, &known) {
            (Some(url), _) => {
                let manner = self.manners.get(id).copied().unwrap_or_default();
                let other = || format!("cluster {:?} has no servers like {url}", self.name);
                S::at(url, manner, &self.reach).ok_or_else(other)?
            }
            // Its connections are kept.
            (None, Some(known)) => S::clone(&known.service),
            (None, None) => return Err(format!("no node is named \"{id}\": give a `url` to add it")),
        };
        let node = match &known {
            Some(known) => known.member.node.clone(),
            None => Node::new(id.clone()),
        };
        self.cluster.insert(change(node), server).map_err(|wrong| wrong.to_string())?;
        Ok(known.is_none())
    }

    fn remove(&self, id: &NodeId) -> bool {
        self.cluster.remove(id.clone())
    }

    fn readmit(&self, id: &NodeId) -> bool {
        self.ejections.as_ref().is_some_and(|ejections| ejections.release(id.clone()))
    }
}
