use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Request, Response, Uri};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::watch;
use tower_service::Service;

use super::{SendBody, UpstreamBody, UpstreamError, UpstreamErrorKind};

/// One HTTP/2 connection that all requests share, made again when it is gone.
///
/// The pooled client of hyper-util connects to the authority of the request, which here is the client's business:
/// every host that a client thinks of would be a connection of its own.
pub(super) struct SharedConnection {
    connector: HttpConnector,
    server: Uri,
    connect_timeout: Option<Duration>,
    newest: Mutex<Option<watch::Receiver<Attempt>>>,
}

/// An attempt to connect, None while it is under way.
type Attempt = Option<Result<SendRequest<SendBody>, UpstreamError>>;

/// With streams open, silence this long is asked about, and the connection given up when nothing comes back.
const PING_AFTER: Duration = Duration::from_secs(10);
const PONG_WITHIN: Duration = Duration::from_secs(10);

impl SharedConnection {
    pub(super) fn new(connector: HttpConnector, server: Uri, connect_timeout: Option<Duration>) -> Self {
        Self { connector, server, connect_timeout, newest: Mutex::new(None) }
    }

    /// A connection of its own to the same server.
    pub(super) fn fresh(&self) -> Self {
        Self::new(self.connector.clone(), self.server.clone(), self.connect_timeout)
    }

    pub(super) async fn send(
        self: Arc<Self>,
        request: Request<SendBody>,
    ) -> Result<Response<UpstreamBody>, UpstreamError> {
        let mut request = request;
        let mut again = true;
        loop {
            let mut sender = self.sender().await?;
            match sender.try_send_request(request).await {
                Ok(response) => return Ok(response.map(UpstreamBody::shared)),
                Err(mut error) => match error.take_message() {
                    // The connection went away before it took the request: the next one may do better.
                    Some(unsent) if again => {
                        request = unsent;
                        again = false;
                    }
                    _ => return Err(UpstreamError::from_hyper(error.into_error())),
                },
            }
        }
    }

    async fn sender(&self) -> Result<SendRequest<SendBody>, UpstreamError> {
        let mut attempt = self.attempt();
        match attempt.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().expect("waited for an outcome"),
            Err(gone) => Err(UpstreamError::new(UpstreamErrorKind::Connect, gone)),
        }
    }

    /// The newest attempt that may still lead to a connection. All requests that come meanwhile share its outcome, so
    /// a server that is down costs each of them one timeout, not one after another.
    fn attempt(&self) -> watch::Receiver<Attempt> {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(attempt) = &*newest {
            let usable = match &*attempt.borrow() {
                None => attempt.has_changed().is_ok(),
                Some(Ok(sender)) => !sender.is_closed(),
                Some(Err(_)) => false,
            };
            if usable {
                return attempt.clone();
            }
        }
        let (done, attempt) = watch::channel(None);
        let connect = connect(self.connector.clone(), self.server.clone(), self.connect_timeout);
        // A task of its own: the request that happened to be first may be cancelled.
        tokio::spawn(async move { done.send(Some(connect.await)) });
        *newest = Some(attempt.clone());
        attempt
    }
}

async fn connect(
    mut connector: HttpConnector,
    server: Uri,
    limit: Option<Duration>,
) -> Result<SendRequest<SendBody>, UpstreamError> {
    let failed = |error: tower::BoxError| UpstreamError::new(UpstreamErrorKind::Connect, error);
    let handshake = async {
        let stream = connector.call(server).await.map_err(|error| failed(error.into()))?;
        http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_AFTER)
            .keep_alive_timeout(PONG_WITHIN)
            .handshake(stream)
            .await
            .map_err(|error| failed(error.into()))
    };
    let (sender, connection) = match limit {
        Some(limit) => tokio::time::timeout(limit, handshake).await.map_err(|slow| failed(slow.into()))??,
        None => handshake.await?,
    };
    // Its error also reaches every request it carries.
    tokio::spawn(connection);
    Ok(sender)
}
