//! Asking: what a resolver is, and the one that is used by default.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use async_trait::async_trait;
use hickory_resolver::{
    Resolver, TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig},
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::rr::{RData, RecordType},
};
use tower::BoxError;

/// Looks names up.
///
/// [`Client`] asks DNS servers. Bring your own to resolve in another way: over TLS, from a service registry, or from a
/// table in a test. Each call should ask afresh, or give what is left of the time to live; it is not called more often
/// than the answers expire.
///
/// ```
/// use std::time::Duration;
/// use buttress::discover::dns::{Answer, Family, Resolve, Srv};
///
/// #[derive(Debug)]
/// struct Table;
///
/// #[async_trait::async_trait]
/// impl Resolve for Table {
///     async fn addresses(&self, host: &str, family: Family) -> Result<Answer<std::net::IpAddr>, tower::BoxError> {
///         match (host, family) {
///             ("web.internal", Family::V4) => Ok(Answer::new(["10.0.0.1".parse()?], Duration::from_secs(30))),
///             _ => Ok(Answer::none()),
///         }
///     }
///
///     async fn services(&self, _name: &str) -> Result<Answer<Srv>, tower::BoxError> {
///         Err("the table knows addresses only".into())
///     }
/// }
/// ```
#[async_trait]
pub trait Resolve: fmt::Debug + Send + Sync + 'static {
    /// The addresses of one family that `host` has: its A or AAAA records.
    ///
    /// # Errors
    /// If nobody could say. That the name does not exist, or has no such address, is [`Answer::none`].
    async fn addresses(&self, host: &str, family: Family) -> Result<Answer<IpAddr>, BoxError>;

    /// The SRV records of `name`.
    ///
    /// # Errors
    /// If nobody could say. That the name does not exist, or has no such record, is [`Answer::none`].
    async fn services(&self, name: &str) -> Result<Answer<Srv>, BoxError>;
}

/// A kind of address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4: A records.
    V4,
    /// IPv6: AAAA records.
    V6,
}

/// What a resolver found, and for how long it is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<T> {
    /// What it found, in any order. Empty if there is none.
    pub records: Vec<T>,
    /// The time to live that is left.
    pub ttl: Duration,
}

impl<T> Answer<T> {
    /// An answer that is valid for `ttl`.
    pub fn new(records: impl IntoIterator<Item = T>, ttl: Duration) -> Self {
        Self { records: records.into_iter().collect(), ttl }
    }

    /// The answer that there is no such record.
    pub fn none() -> Self {
        Self { records: Vec::new(), ttl: Duration::ZERO }
    }
}

/// One SRV record (RFC 2782): where an instance of a service is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Srv {
    /// Those with the lowest number are used first.
    pub priority: u16,
    /// The host that it runs on.
    pub host: String,
    /// The port that it listens on.
    pub port: u16,
    /// Its share of traffic beside others of the same priority.
    pub weight: u16,
}

/// Asks DNS servers, over UDP and, where an answer is too long for that, TCP.
///
/// Keeps no answers: whoever asks keeps them for as long as they are valid.
#[derive(Clone)]
pub struct Client {
    resolver: TokioResolver,
}

impl Client {
    /// A client of the servers that the system is set up with (`/etc/resolv.conf`, `/etc/hosts` or the registry).
    ///
    /// # Errors
    /// If these settings cannot be read.
    pub fn system() -> Result<Self, BoxError> {
        Self::build(TokioResolver::builder_tokio()?)
    }

    /// A client of these servers alone.
    ///
    /// # Errors
    /// If the client cannot be set up.
    pub fn servers(servers: impl IntoIterator<Item = SocketAddr>) -> Result<Self, BoxError> {
        let servers = servers.into_iter().map(|server| {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                connection.port = server.port();
                connection
            });
            NameServerConfig::new(server.ip(), true, connections.into())
        });
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
        Self::build(Resolver::builder_with_config(config, TokioRuntimeProvider::default()))
    }

    fn build(mut builder: hickory_resolver::ResolverBuilder<TokioRuntimeProvider>) -> Result<Self, BoxError> {
        // A cached failure would outlive the fault, and a cached answer is asked for just before it expires.
        builder.options_mut().cache_size = 0;
        Ok(Self { resolver: builder.build()? })
    }

    async fn ask<T>(
        &self,
        name: &str,
        kind: RecordType,
        pick: impl Fn(&RData) -> Option<T>,
    ) -> Result<Answer<T>, BoxError> {
        // Even a cache of size 0 may hold an entry for a moment.
        self.resolver.clear_lookup_cache(name, kind);
        let lookup = match self.resolver.lookup(name, kind).await {
            Ok(lookup) => lookup,
            Err(NetError::Dns(DnsError::NoRecordsFound(_))) => return Ok(Answer::none()),
            Err(error) => return Err(error.into()),
        };
        // Aliases on the way expire as well.
        let ttl = lookup.answers().iter().map(|record| record.ttl).min().unwrap_or(0);
        let records = lookup.answers().iter().filter_map(|record| pick(&record.data));
        Ok(Answer::new(records, Duration::from_secs(ttl.into())))
    }
}

#[async_trait]
impl Resolve for Client {
    async fn addresses(&self, host: &str, family: Family) -> Result<Answer<IpAddr>, BoxError> {
        let kind = match family {
            Family::V4 => RecordType::A,
            Family::V6 => RecordType::AAAA,
        };
        self.ask(host, kind, RData::ip_addr).await
    }

    async fn services(&self, name: &str) -> Result<Answer<Srv>, BoxError> {
        self.ask(name, RecordType::SRV, |data| match data {
            // The root as target says that the service is decidedly not there.
            RData::SRV(srv) if !srv.target.is_root() => Some(Srv {
                priority: srv.priority,
                host: srv.target.to_ascii(),
                port: srv.port,
                weight: srv.weight,
            }),
            _ => None,
        })
        .await
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}
