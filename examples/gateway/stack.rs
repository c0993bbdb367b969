//! What a request travels through: this is the part to copy.
//!
//! ```text
//! Proxy            headers, upgrades, answers for failures
//!   └─ Retry       on to another node where that is safe
//!        └─ Balance    one node of the cluster, chosen by a policy
//!             └─ Upstream   connections to that node
//! ```

use buttress::{
    balance::{
        Balance, Retry,
        http::{ClassifyHttp, OnBody, RepeatHttp},
    },
    cluster::Cluster,
    forward::{ForwardHeaders, Proxy, Upstream},
};

use crate::{
    Failure,
    config::{Config, RequestKey},
};

pub(crate) type Balancer = Balance<Upstream, RequestKey, ClassifyHttp, OnBody>;

/// The service that answers each client's requests.
pub(crate) type Stack = Proxy<Retry<Balancer, RepeatHttp>>;

pub(crate) struct Gateway {
    pub(crate) proxy: Stack,
    /// The nodes behind it: a change here changes where requests go.
    pub(crate) cluster: Cluster<Upstream>,
}

/// Puts the blocks together.
pub(crate) fn build(config: &Config) -> Result<Gateway, Failure> {
    let upstreams = config.upstreams();
    let nodes = config.upstream.iter().map(|upstream| (upstream.node(), upstream.url.reach(&upstreams)));
    let cluster = Cluster::new(nodes)?;

    let mut balance = Balance::http(cluster.clone(), config.policy.build())
        .key(config.policy.key())
        .levels(config.levels());
    if let Some(queue) = config.queue() {
        balance = balance.queue(queue);
    }
    let repeat = RepeatHttp::new().limit(config.retries.body_limit);
    let retry = Retry::new(balance, repeat).tries(config.retries.tries).budget(config.retries.budget());
    let proxy = Proxy::new(retry).headers(ForwardHeaders::new().trust(config.trusted()));
    Ok(Gateway { proxy, cluster })
}
