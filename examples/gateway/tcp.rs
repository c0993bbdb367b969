//! TCP listeners: connections that are passed on whatever they carry.

use std::net::SocketAddr;

use buttress::forward::{proxy_protocol::Receiver, tcp::TcpProxy};
use tokio::{net::TcpListener, task::JoinSet};

use crate::{
    Failure, Stop,
    config::Config,
    listen,
    stack::{Connector, Gateway},
};

/// A listener, with what passes its connections on.
pub(crate) struct Passage {
    listener: TcpListener,
    proxy: TcpProxy<Connector>,
    cluster: String,
}

/// Opens the listeners of the configuration.
pub(crate) async fn open(config: &Config, gateway: &Gateway) -> Result<Vec<Passage>, Failure> {
    let mut passages = Vec::new();
    for tcp in &config.tcp {
        let listener = listen(tcp.listen, "choose another address in the configuration, at [[tcp]]").await?;
        let cluster = tcp.cluster.get_ref().clone();
        let proxy = tcp.proxy(gateway.connectors[&cluster].clone()).drain_timeout(config.timeouts.drain);
        let proxy = if tcp.is_told() { proxy.proxy_protocol(Receiver::new(config.trusted())) } else { proxy };
        passages.push(Passage { listener, proxy, cluster });
    }
    Ok(passages)
}

impl Passage {
    /// Where clients come in, and which cluster they are passed on to.
    pub(crate) fn ends(&self) -> std::io::Result<(SocketAddr, String)> {
        Ok((self.listener.local_addr()?, self.cluster.clone()))
    }
}

/// Passes connections on until `stop`, and lets them come to their end. Gives how many did not.
pub(crate) async fn serve(passages: Vec<Passage>, stop: &Stop) -> usize {
    let serve = |Passage { listener, proxy, .. }| proxy.serve(listener, stop.clone().told());
    let open: JoinSet<_> = passages.into_iter().map(serve).collect();
    open.join_all().await.into_iter().sum()
}
