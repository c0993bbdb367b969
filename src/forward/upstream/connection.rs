use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{Request, Response};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::watch;

use super::connector::Connector;
use super::pool::Pool;
use super::{SendBody, UpstreamBody, UpstreamError, UpstreamErrorKind, reshape_http1};

/// One HTTP/2 connection that all requests share, made again when it is gone.
///
/// The pooled client of hyper-util connects to the authority of the request, which here is the client's business:
/// every host that a client thinks of would be a connection of its own.
pub(super) struct SharedConnection {
    connector: Connector,
    /// Where there is TLS: for upgrades, and for everything if the server prefers HTTP/1.1.
    http1: Option<Arc<Pool>>,
    newest: Mutex<Option<watch::Receiver<Attempt>>>,
}

/// An attempt to connect, None while it is under way.
type Attempt = Option<Result<Spoken, UpstreamError>>;

/// What the server speaks.
#[derive(Clone)]
enum Spoken {
    Http2(SendRequest<SendBody>),
    Http1(Arc<Pool>),
}

/// With streams open, silence this long is asked about, and the connection given up when nothing comes back.
const PING_AFTER: Duration = Duration::from_secs(10);
const PONG_WITHIN: Duration = Duration::from_secs(10);

impl SharedConnection {
    pub(super) fn new(connector: Connector, http1: Option<Arc<Pool>>) -> Arc<Self> {
        Arc::new(Self { connector, http1, newest: Mutex::new(None) })
    }

    /// The connections for what HTTP/2 cannot do.
    pub(super) fn http1(&self) -> Option<&Arc<Pool>> {
        self.http1.as_ref()
    }

    /// A connection of its own to the same server.
    pub(super) fn fresh(&self) -> Arc<Self> {
        Self::new(self.connector.clone(), self.http1.as_ref().map(|pool| pool.fresh()))
    }

    pub(super) async fn send(
        self: Arc<Self>,
        request: Request<SendBody>,
    ) -> Result<Response<UpstreamBody>, UpstreamError> {
        let mut request = request;
        let mut again = true;
        loop {
            let mut sender = match self.spoken().await? {
                Spoken::Http2(sender) => sender,
                Spoken::Http1(pool) => {
                    let answer = Box::pin(pool.send(reshape_http1(request))).await;
                    if answer.as_ref().is_err_and(UpstreamError::is_connect) {
                        // It may have changed its mind.
                        *self.newest() = None;
                    }
                    return answer;
                }
            };
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

    async fn spoken(self: &Arc<Self>) -> Result<Spoken, UpstreamError> {
        let mut attempt = self.attempt();
        match attempt.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().expect("waited for an outcome"),
            Err(gone) => Err(UpstreamError::new(UpstreamErrorKind::Connect, gone)),
        }
    }

    /// The newest attempt that may still lead to a connection. All requests that come meanwhile share its outcome, so
    /// a server that is down costs each of them one timeout, not one after another.
    fn attempt(self: &Arc<Self>) -> watch::Receiver<Attempt> {
        let mut newest = self.newest();
        if let Some(attempt) = &*newest {
            let usable = match &*attempt.borrow() {
                None => attempt.has_changed().is_ok(),
                Some(Ok(Spoken::Http2(sender))) => !sender.is_closed(),
                Some(Ok(Spoken::Http1(_))) => true,
                Some(Err(_)) => false,
            };
            if usable {
                return attempt.clone();
            }
        }
        let (done, attempt) = watch::channel(None);
        let this = Arc::clone(self);
        // A task of its own: the request that happened to be first may be cancelled.
        tokio::spawn(async move { done.send(Some(this.connect().await)) });
        *newest = Some(attempt.clone());
        attempt
    }

    async fn connect(&self) -> Result<Spoken, UpstreamError> {
        let stream = self.connector.connect().await?;
        if let Some(pool) = self.http1.as_ref().filter(|_| !stream.speaks_http2()) {
            pool.adopt(stream).await?;
            return Ok(Spoken::Http1(Arc::clone(pool)));
        }
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_AFTER)
            .keep_alive_timeout(PONG_WITHIN)
            .handshake(stream)
            .await
            .map_err(|error| UpstreamError::new(UpstreamErrorKind::Connect, error))?;
        // Its error also reaches every request it carries.
        tokio::spawn(connection);
        Ok(Spoken::Http2(sender))
    }

    fn newest(&self) -> MutexGuard<'_, Option<watch::Receiver<Attempt>>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
