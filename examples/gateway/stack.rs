//! What a request travels through: this is the part to copy.
//!
//! ```text
//! Proxy            headers, upgrades, answers for failures
//!   └─ Route       which cluster it is for, and how much it matters
//!        └─ Sticky      to the node that knows the client, by a cookie
//!             └─ Limit       no more at once than the cluster can do
//!                  └─ Retry       on to another node where that is safe
//!                       └─ Balance    one node of the cluster, chosen by a policy
//!                            └─ Upstream   connections to that node
//! ```
//!
//! A TCP connection goes a shorter way: `TcpProxy`, `Retry`, `Balance`, `TcpUpstream`.

use std::{collections::HashMap, sync::Arc};

use buttress::{
    balance::{
        Balance, Cloned, Retry,
        http::{ClassifyHttp, OnBody, RepeatHttp, Reported, Steered},
        tcp::{ByClient, ClassifyConnect, OnClose},
    },
    cluster::Cluster,
    forward::{
        ForwardHeaders, Proxy, Upstream,
        tcp::{Connect, TcpUpstream},
    },
    overload::{Limit, LimitLayer},
    route::Route,
    sticky::{Pins, Sticky, StickyLayer},
};
use tower::{
    Layer,
    util::{Either, option_layer},
};

use crate::{
    Failure,
    config::{Config, RequestKey, Settings},
    pool::{Nodes, Pool},
    priority::{Matters, Ranked},
};

/// The service that answers each client's requests.
pub(crate) type Stack = Proxy<Route<Ranked<Site>>>;

/// The services of one cluster, below the route that leads there.
pub(crate) type Site = Either<Sticky<Limited>, Limited>;
type Limited = Limit<Retry<Balancer, RepeatHttp>, Matters, ClassifyHttp, OnBody>;
pub(crate) type Limits = LimitLayer<Matters, ClassifyHttp, OnBody>;
type Balancer = Balance<Upstream, Steered<RequestKey>, ClassifyHttp, Reported<OnBody>>;

/// The service that finds a server for each TCP connection.
pub(crate) type Connector =
    Retry<Balance<TcpUpstream, ByClient, ClassifyConnect, OnClose>, Cloned<fn(&Connect) -> bool>>;

pub(crate) struct Gateway {
    pub(crate) proxy: Stack,
    /// What TCP listeners need, by cluster.
    pub(crate) connectors: HashMap<String, Connector>,
    /// The nodes behind it: a change here changes where requests go.
    pub(crate) pools: Vec<Arc<dyn Nodes>>,
}

/// Puts the blocks together.
pub(crate) fn build(config: &Config) -> Result<Gateway, Failure> {
    let (mut sites, mut connectors) = (HashMap::new(), HashMap::new());
    let mut pools: Vec<Arc<dyn Nodes>> = Vec::new();
    for name in config.clusters() {
        let settings = config.settings(name);
        if config.is_tcp(name) {
            let pool = Pool::start(name, config)?;
            connectors.insert(name.to_owned(), connector(pool.cluster.clone(), &settings));
            pools.push(Arc::new(pool));
        } else {
            let mut pool = Pool::start(name, config)?;
            let (pins, limits) = (pool.pins(&settings)?, pool.limit(&settings, config.trusted()));
            sites.insert(name, site(pool.cluster.clone(), &settings, &limits, pins));
            pools.push(Arc::new(pool));
        }
    }
    let route = Route::new(config.routes(|cluster, rank| Ranked::new(sites[cluster].clone(), rank)));
    let proxy = Proxy::new(route).headers(ForwardHeaders::new().trust(config.trusted()));
    Ok(Gateway { proxy, connectors, pools })
}

fn site(cluster: Cluster<Upstream>, settings: &Settings, limits: &Limits, pins: Option<Pins>) -> Site {
    let balance =
        Balance::http(cluster, settings.policy.build()).key(settings.policy.key()).levels(settings.levels());
    let balance = match settings.queue() {
        Some(queue) => balance.queue(queue),
        None => balance,
    };
    let retry = settings.retries.around(balance.sticky(), settings.retries.repeat());
    option_layer(pins.map(StickyLayer::new)).layer(limits.layer(retry))
}

fn connector(cluster: Cluster<TcpUpstream>, settings: &Settings) -> Connector {
    let balance = Balance::tcp(cluster, settings.policy.build()).levels(settings.levels());
    let balance = match settings.queue() {
        Some(queue) => balance.queue(queue),
        None => balance,
    };
    // A server that cannot be connected to has seen nothing of the client: the next one may be asked.
    settings.retries.around(balance, Cloned::new(|_| false))
}
