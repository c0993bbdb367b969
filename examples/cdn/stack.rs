//! What a request travels through: this is the part to copy.
//!
//! ```text
//! Proxy            headers, upgrades, answers for failures
//!   └─ Cdn              what is stored, and what is on its way
//!        └─ Balance          one of the origins that are well
//!             └─ Upstream         connections to that origin
//! ```

use std::error::Error;

use buttress::{
    balance::{
        Balance, NoKey, RoundRobin,
        http::{ClassifyHttp, OnBody},
    },
    cdn::{Cdn, CdnService},
    cluster::{Cluster, Node},
    forward::{Proxy, Upstream},
    health::{HttpCheck, Monitor},
};

use crate::config::Config;

/// The service that answers each client's requests.
pub(crate) type Stack = Proxy<CdnService<Origins>>;

type Origins = Balance<Upstream, NoKey, ClassifyHttp, OnBody>;

pub(crate) struct Gateway {
    pub(crate) proxy: Stack,
    pub(crate) cdn: Cdn,
    /// Asks the origins how they are as long as it is kept.
    _monitor: Option<Monitor>,
}

/// Puts the blocks together.
pub(crate) fn build(config: &Config) -> Result<Gateway, Box<dyn Error>> {
    let upstream = Upstream::builder()
        .preserve_host(config.preserve_host)
        .connect_timeout(config.timeouts.connect)
        .response_timeout(config.timeouts.response);
    let nodes = config.origin.iter().map(|origin| {
        // Origins of a higher priority are asked only when all of a lower one are down.
        Ok((Node::new(origin.url.as_str()).priority(origin.priority), upstream.build(&origin.url)?))
    });
    let cluster = Cluster::new(nodes.collect::<Result<Vec<_>, Box<dyn Error>>>()?)?;
    let monitor = config.health.as_ref().map(|health| {
        let monitor = Monitor::builder().interval(health.interval).fall(health.fall);
        let told = monitor.on_change(|change| eprintln!("{change}"));
        Ok::<_, Box<dyn Error>>(told.start(&cluster, HttpCheck::new(&health.path)?)?)
    });
    let cdn = config.cdn();
    let proxy = Proxy::new(cdn.service(Balance::http(cluster, RoundRobin)));
    Ok(Gateway { proxy, cdn, _monitor: monitor.transpose()? })
}
