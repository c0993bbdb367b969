use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode, Version};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{ProxyBody, ProxyError, Settings, one_length, say_upgrade};
use crate::forward::{UpgradeLease, ambiguous_framing, has_coded_body, upgrade::Asked};

pin_project! {
    /// The future of [`Proxy`](super::Proxy).
    pub struct ResponseFuture<S, B>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        state: State<S, S::Future, B>,
        exchange: Option<Exchange>,
    }
}

pin_project! {
    #[project = Projected]
    enum State<S, F, B> {
        Waiting { service: S, request: Option<Request<B>> },
        Calling { #[pin] answer: F },
        Refused { status: StatusCode, version: Version },
    }
}

/// What must be known of a request when its answer comes.
pub(super) struct Exchange {
    pub(super) settings: Arc<Settings>,
    pub(super) version: Version,
    pub(super) asked: Option<Asked>,
}

impl<S: Service<Request<B>>, B> ResponseFuture<S, B> {
    pub(super) fn forward(service: S, request: Request<B>, exchange: Exchange) -> Self {
        Self { state: State::Waiting { service, request: Some(request) }, exchange: Some(exchange) }
    }

    pub(super) fn refuse(status: StatusCode, version: Version) -> Self {
        Self { state: State::Refused { status, version }, exchange: None }
    }
}

impl<S, B, R> Future for ResponseFuture<S, B>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Error: ProxyError,
    R: Body<Data = Bytes>,
{
    type Output = Result<Response<ProxyBody<R>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let outcome = loop {
            match this.state.as_mut().project() {
                Projected::Waiting { service, request } => {
                    if let Err(error) = ready!(service.poll_ready(cx)) {
                        break Err(error);
                    }
                    let request = request.take().expect("left in place until the service is ready");
                    let answer = service.call(request);
                    this.state.set(State::Calling { answer });
                }
                Projected::Calling { answer } => break ready!(answer.poll(cx)),
                Projected::Refused { status, version } => {
                    return Poll::Ready(Ok(own_answer(*status, None, *version)));
                }
            }
        };
        let exchange = this.exchange.take().expect("polled once after the answer");
        Poll::Ready(Ok(match outcome {
            Ok(response) => exchange.pass_back(response),
            Err(error) => own_answer(error.status(), error.retry_after(), exchange.version),
        }))
    }
}

impl<S: Service<Request<B>>, B> fmt::Debug for ResponseFuture<S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

impl Exchange {
    fn pass_back<R>(self, mut response: Response<R>) -> Response<ProxyBody<R>> {
        // An intermediary speaks its own version, not that of the server (RFC 9110, section 2.5).
        *response.version_mut() = Version::HTTP_11;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return self.switch(response);
        }
        let headers = response.headers_mut();
        if ambiguous_framing(headers) || has_coded_body(headers) {
            return own_answer(StatusCode::BAD_GATEWAY, None, self.version);
        }
        self.settings.hop.strip(headers);
        one_length(headers);
        response.map(ProxyBody::passed)
    }

    fn switch<R>(self, mut response: Response<R>) -> Response<ProxyBody<R>> {
        let Some(chosen) = response.headers().get(UPGRADE).cloned() else {
            return own_answer(StatusCode::BAD_GATEWAY, None, self.version);
        };
        let Some(asked) = self.asked.filter(|asked| asked.offers(&chosen)) else {
            return own_answer(StatusCode::BAD_GATEWAY, None, self.version);
        };
        let server = hyper::upgrade::on(&mut response);
        let lease: Option<UpgradeLease> = response.extensions_mut().remove();
        asked.join(server, lease, self.settings.upgrade_idle_timeout);

        let headers = response.headers_mut();
        self.settings.hop.strip(headers);
        say_upgrade(headers, chosen);
        response.map(|_| ProxyBody::empty())
    }
}

/// An answer of the proxy's own. It says no more than its status.
fn own_answer<R>(
    status: StatusCode,
    retry_after: Option<Duration>,
    version: Version,
) -> Response<ProxyBody<R>> {
    let name = status.canonical_reason().unwrap_or_default();
    let mut response = Response::new(ProxyBody::own(format!("{} {name}\n", status.as_str())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if let Some(wait) = retry_after {
        // Whole seconds, rounded up: earlier would be in vain.
        let seconds = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0));
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    // After a request that could not be made sense of, nothing on the connection can be trusted to be the next one.
    let doubtful = matches!(status, StatusCode::BAD_REQUEST | StatusCode::NOT_IMPLEMENTED);
    if doubtful && version <= Version::HTTP_11 {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
