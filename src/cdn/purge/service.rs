//! Purges over HTTP.

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE},
};
use http_body::Body;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use tower_service::Service;

use super::{Purge, json, order};
use crate::cdn::{Cdn, store::Store};

/// The longest order, in bytes.
const LONGEST: usize = 1 << 20;
/// The shortest token, in bytes.
const SHORTEST: usize = 16;

/// Purges over HTTP, for those who know a token.
///
/// It is a service of its own, to be mounted on a path or a port that only operators reach. Every request must have
/// `Authorization: Bearer` with the token.
///
/// | request | purges |
/// |---|---|
/// | `PURGE /path` | this URL on the host of the request; marks it stale with `Soft-Purge: 1` |
/// | `POST` with a JSON object | what it says: `url`, `prefix`, `tag` (a text, or a list of them), `all` (true); marks it stale with `soft` (true) |
///
/// An order is carried out completely, or not at all. The answer is JSON: `{"purged":2}`, or `{"error":"…","message":"…"}`
/// with a status that suits.
///
/// ```
/// use buttress::cdn::{Cdn, PurgeService};
/// use bytes::Bytes;
/// use http::Request;
/// use http_body_util::Full;
/// use tower::ServiceExt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cdn = Cdn::new(256 << 20);
/// let admin = PurgeService::new(&cdn, "a token that nobody guesses")?;
/// let order = Request::post("/purge")
///     .header("authorization", "Bearer a token that nobody guesses")
///     .header("content-type", "application/json")
///     .body(Full::<Bytes>::from(r#"{"tag": ["socks", "shoes"], "soft": true}"#))?;
/// assert_eq!(admin.oneshot(order).await?.status(), 200);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct PurgeService {
    store: Store,
    token: Arc<[u8]>,
}

/// A token that is no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token needs at least 16 bytes, all of them visible ASCII or spaces within: make a random one")]
pub struct InvalidToken;

impl PurgeService {
    /// Purges of this cache, for those who know the token.
    ///
    /// # Errors
    /// If the token is short, or cannot be in a field.
    pub fn new(cdn: &Cdn, token: &str) -> Result<Self, InvalidToken> {
        let is_sendable =
            token.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') && token.trim() == token;
        if token.len() < SHORTEST || !is_sendable {
            return Err(InvalidToken);
        }
        Ok(Self { store: cdn.store().clone(), token: token.as_bytes().into() })
    }

    fn is_authorized(&self, headers: &HeaderMap) -> bool {
        let mut given = headers.get_all(AUTHORIZATION).iter();
        let (Some(given), None) = (given.next(), given.next()) else { return false };
        let Some((scheme, token)) = given.as_bytes().split_at_checked("Bearer ".len()) else { return false };
        scheme.eq_ignore_ascii_case(b"Bearer ") && is_same(token, &self.token)
    }
}

/// Compares in a time that tells nothing but the lengths.
fn is_same(a: &[u8], b: &[u8]) -> bool {
    let difference = a.iter().zip(b).fold(0, |difference, (a, b)| std::hint::black_box(difference | (a ^ b)));
    a.len() == b.len() && std::hint::black_box(difference) == 0
}

impl fmt::Debug for PurgeService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PurgeService").finish_non_exhaustive()
    }
}

impl<B> Service<Request<B>> for PurgeService
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = PurgeFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> PurgeFuture {
        let this = self.clone();
        PurgeFuture(Box::pin(async move { this.answer(request).await.unwrap_or_else(Refusal::response) }))
    }
}

impl PurgeService {
    async fn answer<B>(&self, request: Request<B>) -> Result<Response<Full<Bytes>>, Refusal>
    where
        B: Body,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (head, body) = request.into_parts();
        // Before anything of the order is looked at.
        if !self.is_authorized(&head.headers) {
            return Err(Refusal::Unauthorized);
        }
        let purges = match &head.method {
            &Method::POST => {
                if !is_json(&head.headers) {
                    return Err(Refusal::MediaType);
                }
                let body = match Limited::new(body, LONGEST).collect().await {
                    Ok(body) => body.to_bytes(),
                    Err(error) if error.is::<LengthLimitError>() => return Err(Refusal::TooLarge),
                    Err(_) => return Err(Refusal::Body),
                };
                let text = std::str::from_utf8(&body).map_err(|_| Refusal::Body)?;
                order::from_json(text)?
            }
            method if method.as_str() == "PURGE" => {
                vec![order::from_request(self.store.keys(), &head.uri, &head.headers)?]
            }
            _ => return Err(Refusal::Method),
        };
        Ok(self.purge(&purges).await)
    }

    #[allow(clippy::unused_async, reason = "it waits for other nodes, where there are some")]
    async fn purge(&self, purges: &[Purge]) -> Response<Full<Bytes>> {
        let count = purges.len();
        #[cfg(not(feature = "redis"))]
        for purge in purges {
            self.store.purge(purge);
        }
        #[cfg(feature = "redis")]
        let told = self.store.purge_and_tell(purges).await;
        #[cfg(feature = "disk")]
        self.store.flush_purges().await;
        #[cfg(feature = "redis")]
        let (status, told) = match told {
            None => (StatusCode::OK, ""),
            Some(true) => (StatusCode::OK, ",\"told\":true"),
            // It will be told as soon as that is possible.
            Some(false) => (StatusCode::ACCEPTED, ",\"told\":false"),
        };
        #[cfg(not(feature = "redis"))]
        let (status, told) = (StatusCode::OK, "");
        response(status, format!("{{\"purged\":{count}{told}}}"))
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let media = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let media = media.split(|byte| *byte == b';').next().unwrap_or_default();
    media.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

/// Why an order is not carried out.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("send the token as \"Authorization: Bearer TOKEN\"")]
    Unauthorized,
    #[error("send PURGE for a URL, or POST with JSON")]
    Method,
    #[error("send \"Content-Type: application/json\"")]
    MediaType,
    #[error("an order has at most {LONGEST} bytes: send several")]
    TooLarge,
    #[error("the body broke off, or is not UTF-8")]
    Body,
    #[error(transparent)]
    Order(#[from] order::BadOrder),
}

impl Refusal {
    fn response(self) -> Response<Full<Bytes>> {
        let (status, code) = match self {
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, "method"),
            Self::MediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "media-type"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too-large"),
            Self::Body => (StatusCode::BAD_REQUEST, "body"),
            Self::Order(_) => (StatusCode::BAD_REQUEST, "order"),
        };
        let message = json::quoted(&self.to_string());
        let mut response = response(status, format!("{{\"error\":\"{code}\",\"message\":{message}}}"));
        let (name, value) = match self {
            Self::Unauthorized => (WWW_AUTHENTICATE, "Bearer"),
            Self::Method => (ALLOW, "POST, PURGE"),
            _ => return response,
        };
        response.headers_mut().insert(name, HeaderValue::from_static(value));
        response
    }
}

fn response(status: StatusCode, json: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(json));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The answer of a [`PurgeService`].
#[must_use = "futures do nothing unless polled"]
pub struct PurgeFuture(Pin<Box<dyn Future<Output = Response<Full<Bytes>>> + Send>>);

impl Future for PurgeFuture {
    type Output = Result<Response<Full<Bytes>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx).map(Ok)
    }
}

impl fmt::Debug for PurgeFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PurgeFuture").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
