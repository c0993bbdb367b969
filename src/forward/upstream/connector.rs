use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use tower::BoxError;
use tower_service::Service;

use super::stream::Stream;
#[cfg(feature = "tls")]
use super::tls::Tls;
use super::{UpstreamError, UpstreamErrorKind};

/// Makes connections to one server.
#[derive(Clone)]
pub(super) struct Connector {
    tcp: HttpConnector,
    server: Uri,
    limit: Option<Duration>,
    #[cfg(feature = "tls")]
    tls: Option<Tls>,
}

impl Connector {
    pub(super) fn new(server: Uri, limit: Option<Duration>) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        // If the server has several addresses, this is shared among them.
        tcp.set_connect_timeout(limit);
        Self {
            tcp,
            server,
            limit,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    #[cfg(feature = "tls")]
    pub(super) fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// A new connection, TLS included, if it comes about in time.
    pub(super) async fn connect(&self) -> Result<Stream, UpstreamError> {
        let outcome = match self.limit {
            Some(limit) => tokio::time::timeout(limit, self.reach())
                .await
                .unwrap_or_else(|_| Err(format!("it took longer than {limit:?}").into())),
            None => self.reach().await,
        };
        outcome.map_err(|error| UpstreamError::new(UpstreamErrorKind::Connect, error))
    }

    async fn reach(&self) -> Result<Stream, BoxError> {
        let tcp = self.tcp.clone().call(self.server.clone()).await?;
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return tls.handshake(tcp.into_inner()).await;
        }
        Ok(Stream::Plain(tcp))
    }
}
