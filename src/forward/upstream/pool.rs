use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Waker};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use hyper::body::{Body, Incoming};
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use tokio::time::{Instant, sleep};

use super::connector::Connector;
use super::stream::Stream;
use super::{SendBody, UpstreamBody, UpstreamError, UpstreamErrorKind};

/// HTTP/1.1 connections to one server, each driven by whoever has a request on it.
///
/// A connection with a task of its own would make each request wait for two more tasks, often on other threads. Here
/// the future of a request and then the body of its answer drive the connection, and while it is idle nobody does:
/// whether it still stands is seen when it is taken again.
pub(super) struct Pool {
    connector: Connector,
    max_idle: usize,
    idle_timeout: Option<Duration>,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    /// The one used last is taken first: the others grow old and can go.
    lines: Vec<(Instant, Line)>,
    is_watched: bool,
}

impl Pool {
    pub(super) fn new(connector: Connector, max_idle: usize, idle_timeout: Option<Duration>) -> Arc<Self> {
        Arc::new(Self { connector, max_idle, idle_timeout, idle: Mutex::default() })
    }

    /// An empty pool for the same server, which keeps no connection.
    pub(super) fn fresh(&self) -> Arc<Self> {
        Self::new(self.connector.clone(), 0, None)
    }

    /// Not an `async fn`, which would keep room for the request twice; and connecting, which is rare, is boxed, so that
    /// the future of every request need not have room for it.
    #[expect(clippy::manual_async_fn, reason = "see above")]
    pub(super) fn send(
        self: Arc<Self>,
        mut request: Request<SendBody>,
    ) -> impl Future<Output = Result<Response<UpstreamBody>, UpstreamError>> + Send {
        async move {
            loop {
                let (mut line, is_new) = match self.take() {
                    Some(line) => (line, false),
                    None => (Box::pin(Line::open(&self.connector)).await?, true),
                };
                match line.exchange(request).await {
                    Ok(response) => return Ok(self.begin_body(line, response)),
                    Err(mut error) => match error.take_message() {
                        // The server closed the connection before it took the request: the next one may do better.
                        Some(unsent) if !is_new => request = unsent,
                        _ => return Err(UpstreamError::from_hyper(error.into_error())),
                    },
                }
            }
        }
    }

    fn begin_body(self: &Arc<Self>, mut line: Line, response: Response<Incoming>) -> Response<UpstreamBody> {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            // Its end is what hands the connection over.
            line.driver.take().map(tokio::spawn);
        }
        response.map(|body| {
            if body.is_end_stream() {
                self.put_back(line);
                return UpstreamBody::shared(body);
            }
            line.settle();
            UpstreamBody::driven(body, line, Arc::clone(self))
        })
    }

    /// Keeps a connection that somebody else made, for the next request.
    pub(super) async fn adopt(self: &Arc<Self>, stream: Stream) -> Result<(), UpstreamError> {
        self.put_back(Line::over(stream).await?);
        Ok(())
    }

    /// An idle connection that still stands.
    fn take(&self) -> Option<Line> {
        loop {
            let (since, mut line) = self.lock().lines.pop()?;
            if self.is_fresh(since) {
                line.settle();
                if line.is_ready() {
                    return Some(line);
                }
            }
        }
    }

    /// Keeps the connection for the next request, if it is free for one.
    pub(super) fn put_back(self: &Arc<Self>, mut line: Line) {
        line.settle();
        if !line.is_ready() {
            return;
        }
        let now = Instant::now();
        let mut idle = self.lock();
        if idle.lines.len() >= self.max_idle {
            return;
        }
        idle.lines.push((now, line));
        if let Some(limit) = self.idle_timeout.filter(|_| !idle.is_watched) {
            idle.is_watched = true;
            tokio::spawn(watch(Arc::downgrade(self), limit));
        }
    }

    fn is_fresh(&self, since: Instant) -> bool {
        self.idle_timeout.is_none_or(|limit| since.elapsed() < limit)
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes connections that nobody took for too long, while there are any.
async fn watch(pool: Weak<Pool>, limit: Duration) {
    loop {
        sleep(limit).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut idle = pool.lock();
        // They were put there in the order of time.
        let fresh = idle.lines.partition_point(|(since, _)| !pool.is_fresh(*since));
        let old: Vec<_> = idle.lines.drain(..fresh).collect();
        let is_empty = idle.lines.is_empty();
        idle.is_watched = !is_empty;
        drop(idle);
        drop(old);
        if is_empty {
            return;
        }
    }
}

/// A connection of hyper's, whose type has no name.
type Driver = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// A connection.
pub(super) struct Line {
    sender: SendRequest<SendBody>,
    /// Does the reading and writing, until the connection is closed.
    driver: Option<Driver>,
}

impl Line {
    async fn open(connector: &Connector) -> Result<Self, UpstreamError> {
        Self::over(connector.connect().await?).await
    }

    async fn over(stream: Stream) -> Result<Self, UpstreamError> {
        let handshake = http1::handshake(stream).await;
        let (sender, connection) =
            handshake.map_err(|error| UpstreamError::new(UpstreamErrorKind::Connect, error))?;
        Ok(Self { sender, driver: Some(Box::pin(connection.with_upgrades())) })
    }

    /// Not an `async fn`, which would keep room for the request to its end.
    fn exchange(
        &mut self,
        request: Request<SendBody>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<SendBody>>>> {
        let answer = self.sender.try_send_request(request);
        let driver = &mut self.driver;
        async move {
            let mut answer = pin!(answer);
            // Only the driver brings the answer about, so the answer itself need not wake anybody.
            poll_fn(|cx| {
                drive(driver, cx);
                answer.as_mut().poll(&mut quiet())
            })
            .await
        }
    }

    /// Goes on with reading and writing. What comes of it is told by the answer and its body.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        drive(&mut self.driver, cx);
    }

    /// Does what can be done now, and wakes nobody from here on.
    pub(super) fn settle(&mut self) {
        self.drive(&mut quiet());
    }

    fn is_ready(&self) -> bool {
        self.driver.is_some() && self.sender.is_ready()
    }
}

fn drive(driver: &mut Option<Driver>, cx: &mut Context<'_>) {
    if driver.as_mut().is_some_and(|driver| driver.as_mut().poll(cx).is_ready()) {
        *driver = None;
    }
}

/// A context that wakes nobody.
pub(super) fn quiet() -> Context<'static> {
    Context::from_waker(Waker::noop())
}
