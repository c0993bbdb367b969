//! Clients' connections: how they are accepted, served over HTTP/1.1 and HTTP/2, and brought to an end.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use buttress::{
    cdn,
    forward::{Interim, InterimSender, PeerAddr, ProxyBody},
};
use http_body_util::BodyExt;
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
};
use tokio::{
    net::TcpListener,
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tower::Service;

use crate::{config::Config, stack::Stack};

/// How long to wait when the system has no more sockets: some may close meanwhile.
const NO_SOCKETS: Duration = Duration::from_millis(50);

/// Serves until told to stop, then finishes what is in flight.
pub(crate) fn run(
    listener: TcpListener,
    proxy: Stack,
    config: &Config,
    mut stop: watch::Receiver<bool>,
) -> impl Future<Output = ()> + Send + 'static {
    let (log, drain) = (config.log, config.timeouts.drain);
    let mut http = Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(config.timeouts.head);
    http.http2().timer(TokioTimer::new()).keep_alive_interval(Duration::from_secs(20));
    async move {
        let graceful = GracefulShutdown::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stop.changed() => break,
            };
            let Ok((stream, peer)) = accepted else {
                sleep(NO_SOCKETS).await;
                continue;
            };
            // Small answers must not wait for the acknowledgement of earlier ones.
            stream.set_nodelay(true).ok();
            let (stream, interim) = Interim::new(stream);
            let client = Client { proxy: proxy.clone(), interim, peer, log };
            let service = service_fn(move |request| client.clone().answer(request));
            let served = http.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
            // An error is the client's: it went away, or spoke no HTTP.
            tokio::spawn(graceful.watch(served));
        }
        drop(listener);
        drop(timeout(drain, graceful.shutdown()).await);
    }
}

/// One connection.
#[derive(Clone)]
struct Client {
    proxy: Stack,
    interim: InterimSender,
    peer: SocketAddr,
    log: bool,
}

impl Client {
    async fn answer(
        mut self,
        mut request: Request<Incoming>,
    ) -> Result<Response<ProxyBody<cdn::Body>>, Infallible> {
        request.extensions_mut().insert(PeerAddr(self.peer));
        self.interim.attend(&mut request);
        let asked = self.log.then(|| (Instant::now(), request.method().clone(), request.uri().clone()));
        // A fill has no body of a client: this kind can be empty too.
        let Ok(answer) = self.proxy.call(request.map(BodyExt::boxed_unsync)).await;
        if let Some((began, method, uri)) = asked {
            let status = answer.headers().get("cache-status").and_then(|status| status.to_str().ok());
            let (peer, code) = (self.peer.ip(), answer.status().as_u16());
            println!("{peer} {method} {uri} {code} {:.1?} {}", began.elapsed(), status.unwrap_or("-"));
        }
        Ok(answer)
    }
}
