//! A cache in front of a service.

use std::{
    fmt,
    future::poll_fn,
    hash::{BuildHasher, Hash},
    panic,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    MemoryCache, RandomState,
    flight::{FlightError, Leader, SingleFlight},
};

/// How often a request waits for another one of the same key, when that comes to nothing, before it goes its own way.
const WAITS: usize = 3;

/// Answers requests from a [`MemoryCache`], and passes on what it cannot answer: one request for each key at a time.
///
/// `key` says what a request asks for; two requests with the same key must be answered alike. A request without a key is
/// passed on as if there were no cache. Responses are cloned, so they should be cheap to clone. How long they are kept is the
/// cache's to say (`MemoryCacheBuilder::ttl`), and the application keeps a handle of it: what is removed while it is being
/// fetched is not stored. All services of a layer share the cache.
///
/// Requests that miss while another of the same key is on its way wait for its response. It is theirs only if it is kept: what
/// [`keep`](Self::keep) refuses is for whoever sent the request, and those who waited send theirs. After an error, which is
/// never kept, one of them goes next. So errors keep their type, and no response reaches another client that may not.
///
/// ```
/// use buttress::cache::{CacheLayer, MemoryCache};
/// use tower::{Layer, Service, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let square = service_fn(|number: u64| async move { Ok::<_, std::io::Error>(number * number) });
/// let cache = MemoryCache::new(1000);
/// let mut service = CacheLayer::new(cache.clone(), |number: &u64| Some(*number)).layer(square);
/// assert_eq!(service.ready().await?.call(7).await?, 49);
/// assert_eq!(cache.get(&7), Some(49));
/// # Ok(())
/// # }
/// ```
pub struct CacheLayer<K, R, F, P = fn(&R) -> bool, H = RandomState> {
    cache: MemoryCache<K, R, H>,
    flights: Flights<K, R>,
    key: F,
    keep: P,
}

/// What those who wait get: a response, or that there is none for them.
type Flights<K, R> = SingleFlight<K, Result<R, Nothing>>;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Nothing {
    /// There was an error: the next request may have more luck.
    Failed,
    /// The response is not for others: nor would be the next one.
    Refused,
}

impl<K, R, F, H> CacheLayer<K, R, F, fn(&R) -> bool, H> {
    /// Answers from `cache` the requests for which `key` says what they ask for.
    pub fn new<Req>(cache: MemoryCache<K, R, H>, key: F) -> Self
    where
        F: Fn(&Req) -> Option<K>,
    {
        Self { cache, flights: SingleFlight::new(), key, keep: |_| true }
    }
}

impl<K, R, F, P, H> CacheLayer<K, R, F, P, H> {
    /// Says which responses are kept and shared (default: all).
    #[must_use]
    pub fn keep<P2>(self, keep: P2) -> CacheLayer<K, R, F, P2, H>
    where
        P2: Fn(&R) -> bool,
    {
        let Self { cache, flights, key, .. } = self;
        CacheLayer { cache, flights, key, keep }
    }
}

impl<S, K, R, F: Clone, P: Clone, H> Layer<S> for CacheLayer<K, R, F, P, H> {
    type Service = Cached<S, K, R, F, P, H>;

    fn layer(&self, inner: S) -> Self::Service {
        Cached { inner, rules: Arc::new(self.clone()) }
    }
}

impl<K, R, F: Clone, P: Clone, H> Clone for CacheLayer<K, R, F, P, H> {
    fn clone(&self) -> Self {
        let (cache, flights) = (self.cache.clone(), self.flights.clone());
        Self { cache, flights, key: self.key.clone(), keep: self.keep.clone() }
    }
}

impl<K, R, F, P, H> fmt::Debug for CacheLayer<K, R, F, P, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheLayer")
            .field("cache", &self.cache)
            .field("flights", &self.flights)
            .finish_non_exhaustive()
    }
}

/// A service behind a cache: see [`CacheLayer`].
///
/// It is always ready, as what is in the cache needs no service: on a miss the future waits for its clone of the inner
/// service to be ready.
pub struct Cached<S, K, R, F, P = fn(&R) -> bool, H = RandomState> {
    inner: S,
    rules: Arc<CacheLayer<K, R, F, P, H>>,
}

impl<S: Clone, K, R, F, P, H> Clone for Cached<S, K, R, F, P, H> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), rules: Arc::clone(&self.rules) }
    }
}

impl<S, K, R, F, P, H> fmt::Debug for Cached<S, K, R, F, P, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cached").field("layer", &self.rules).finish_non_exhaustive()
    }
}

impl<S, Req, K, F, P, H> Service<Req> for Cached<S, K, S::Response, F, P, H>
where
    S: Service<Req> + Clone + Send + 'static,
    S::Response: Clone + Send + Sync + 'static,
    S::Error: Send + 'static,
    S::Future: Send + 'static,
    Req: Send + 'static,
    K: Hash + Eq + Clone + Send + Sync + 'static,
    F: Fn(&Req) -> Option<K> + Send + Sync + 'static,
    P: Fn(&S::Response) -> bool + Send + Sync + 'static,
    H: BuildHasher + Send + Sync + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = CachedFuture<S, Req>;

    /// Always ready: the service may not be needed.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let step = match (self.rules.key)(&request) {
            None => Step::Readying { service: self.inner.clone(), request: Some(request) },
            Some(key) => match self.rules.cache.get(&key) {
                Some(response) => Step::Hit { response: Some(response) },
                None => {
                    let ticket = Ticket::new(self.inner.clone(), request);
                    Step::Loading { load: Box::pin(load(Arc::clone(&self.rules), key, ticket)) }
                }
            },
        };
        CachedFuture { step }
    }
}

/// A request that may be sent, and what came of it.
struct Ticket<S: Service<Req>, Req> {
    call: Mutex<Option<(S, Req)>>,
    answer: Mutex<Option<Result<S::Response, S::Error>>>,
}

impl<S: Service<Req>, Req> Ticket<S, Req> {
    fn new(service: S, request: Req) -> Arc<Self> {
        Arc::new(Self { call: Mutex::new(Some((service, request))), answer: Mutex::new(None) })
    }

    /// Sends it, unless that was done.
    async fn send(&self) -> Option<Result<S::Response, S::Error>> {
        let (mut service, request) = lock(&self.call).take()?;
        // This very clone is polled ready.
        match poll_fn(|cx| service.poll_ready(cx)).await {
            Ok(()) => Some(service.call(request).await),
            Err(error) => Some(Err(error)),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The response to a request that was not in the cache.
async fn load<S, Req, K, F, P, H>(
    rules: Arc<CacheLayer<K, S::Response, F, P, H>>,
    key: K,
    ticket: Arc<Ticket<S, Req>>,
) -> Result<S::Response, S::Error>
where
    S: Service<Req> + Send + 'static,
    S::Response: Clone + Send + Sync + 'static,
    S::Error: Send + 'static,
    S::Future: Send + 'static,
    Req: Send + 'static,
    K: Hash + Eq + Clone + Send + Sync + 'static,
    F: Send + Sync + 'static,
    P: Fn(&S::Response) -> bool + Send + Sync + 'static,
    H: BuildHasher + Send + Sync + 'static,
{
    let mut panicked = None;
    for _ in 0..WAITS {
        let begin = {
            let (rules, key, ticket) = (Arc::clone(&rules), key.clone(), Arc::clone(&ticket));
            move |leader: &mut Leader| {
                let lease = rules.cache.lease(&key);
                leader.joinable_while(lease.watch());
                // It may have come since the caller looked.
                let found = rules.cache.peek(&key);
                async move {
                    if let Some(found) = found {
                        return Ok(found);
                    }
                    match ticket.send().await {
                        Some(Ok(response)) if (rules.keep)(&response) => {
                            lease.commit(response.clone());
                            Ok(response)
                        }
                        answer => {
                            let nothing = match &answer {
                                Some(Ok(_)) => Nothing::Refused,
                                Some(Err(_)) | None => Nothing::Failed,
                            };
                            *lock(&ticket.answer) = answer;
                            Err(nothing)
                        }
                    }
                }
            }
        };
        let outcome = rules.flights.run(key.clone(), begin).await;
        if let Ok(Ok(response)) = outcome {
            return Ok(response);
        }
        // Of a request of one's own.
        let answer = lock(&ticket.answer).take();
        if let Some(answer) = answer {
            return answer;
        }
        match outcome {
            Ok(Err(Nothing::Refused)) | Err(FlightError::Recursive) => break,
            Err(FlightError::Panicked(message)) => panicked = Some(message),
            Ok(_) => {}
        }
    }
    match ticket.send().await {
        Some(answer) => answer,
        // The service panicked over this very request: as it would have without a cache.
        None => {
            let message = panicked.as_deref().unwrap_or("the service did not answer");
            panic::resume_unwind(Box::new(message.to_owned()))
        }
    }
}

pin_project! {
    /// The response of a service behind a [`CacheLayer`].
    #[must_use = "futures do nothing unless polled"]
    pub struct CachedFuture<S, Req>
    where
        S: Service<Req>,
    {
        #[pin]
        step: Step<S, Req>,
    }
}

type Load<R, E> = Pin<Box<dyn Future<Output = Result<R, E>> + Send>>;

pin_project! {
    #[project = StepProj]
    enum Step<S, Req>
    where
        S: Service<Req>,
    {
        Hit { response: Option<S::Response> },
        // Without a key.
        Readying { service: S, request: Option<Req> },
        Calling { #[pin] call: S::Future },
        // With a key that is not in the cache.
        Loading { load: Load<S::Response, S::Error> },
    }
}

impl<S: Service<Req>, Req> Future for CachedFuture<S, Req> {
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut step = self.project().step;
        loop {
            match step.as_mut().project() {
                StepProj::Hit { response } => match response.take() {
                    Some(response) => return Poll::Ready(Ok(response)),
                    None => return Poll::Pending,
                },
                StepProj::Readying { service, request } => {
                    ready!(service.poll_ready(cx))?;
                    let Some(request) = request.take() else { return Poll::Pending };
                    let call = service.call(request);
                    step.set(Step::Calling { call });
                }
                StepProj::Calling { call } => return call.poll(cx),
                StepProj::Loading { load } => return load.as_mut().poll(cx),
            }
        }
    }
}

impl<S: Service<Req>, Req> fmt::Debug for CachedFuture<S, Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedFuture").finish_non_exhaustive()
    }
}
