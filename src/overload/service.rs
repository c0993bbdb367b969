//! The service that limits, and its layer.

use std::{
    fmt,
    task::{Context, Poll},
};

use tower_layer::Layer;
use tower_service::Service;

use super::{Error, Limiter, Permit, SameTerms, TermsOf, future::ResponseFuture};
use crate::balance::{Classify, Complete, ErrorsFail, OnResponse};

/// Sends requests to a service as the limiter admits them, and turns away what is too much.
///
/// Whether a request is admitted is decided in `call`, when its terms are known, so `poll_ready` is always ready: one that
/// has to wait does so in its future, in a bounded queue, and one that is turned away fails at once with
/// [`Error::Overloaded`]. Services that share a [`Limiter`] share its limit.
///
/// A permit is kept from admission until the request is over, which `C` decides, and is given back at an error, in a
/// panic, and when the future is dropped. The clone of the service that is called was polled ready itself.
///
/// Type parameters: `T` finds the terms of a request, `J` judges the answer, `C` says when a request is over. For HTTP,
/// see `Limit::http` (feature `http`).
///
/// ```
/// use buttress::overload::{Error, Fixed, Limit, Limiter, Queue};
/// use tower::{Service, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let echo = service_fn(|request: u32| async move { Ok::<_, std::io::Error>(request) });
/// let limiter = Limiter::new(Fixed::new(1)?, Queue::none());
/// let mut service = Limit::new(echo, limiter);
///
/// let first = service.ready().await?.call(1);
/// assert!(matches!(service.ready().await?.call(2).await, Err(Error::Overloaded(_))));
/// assert_eq!(first.await?, 1);
/// assert_eq!(service.ready().await?.call(3).await?, 3);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Limit<S, T = SameTerms, J = ErrorsFail, C = OnResponse> {
    inner: S,
    limiter: Limiter,
    terms: T,
    judge: J,
    complete: C,
}

impl<S> Limit<S> {
    /// Sends to `inner` what `limiter` admits.
    pub fn new(inner: S, limiter: Limiter) -> Self {
        LimitLayer::new(limiter).layer(inner)
    }
}

impl<S, T, J, C> Limit<S, T, J, C> {
    /// Finds the terms of a request with `terms`: a closure will do.
    #[must_use]
    pub fn terms<T2>(self, terms: T2) -> Limit<S, T2, J, C> {
        let Self { inner, limiter, judge, complete, .. } = self;
        Limit { inner, limiter, terms, judge, complete }
    }

    /// Judges answers with `judge`: a closure will do.
    ///
    /// By default errors say nothing about the limit. A service that refuses with an error, or a timeout inside of the
    /// limit, is worth being judged as [`Overloaded`](crate::cluster::FailureKind::Overloaded) or
    /// [`Timeout`](crate::cluster::FailureKind::Timeout).
    #[must_use]
    pub fn classify<J2>(self, judge: J2) -> Limit<S, T, J2, C> {
        let Self { inner, limiter, terms, complete, .. } = self;
        Limit { inner, limiter, terms, judge, complete }
    }

    /// Says with `complete` when a request is over.
    #[must_use]
    pub fn complete<C2>(self, complete: C2) -> Limit<S, T, J, C2> {
        let Self { inner, limiter, terms, judge, .. } = self;
        Limit { inner, limiter, terms, judge, complete }
    }

    /// What admits its requests.
    pub fn limiter(&self) -> &Limiter {
        &self.limiter
    }
}

impl<S, T, J, C> fmt::Debug for Limit<S, T, J, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limit").field("limiter", &self.limiter).finish_non_exhaustive()
    }
}

impl<S, Req, T, J, C> Service<Req> for Limit<S, T, J, C>
where
    S: Service<Req> + Clone,
    T: TermsOf<Req>,
    J: Classify<S::Response, S::Error> + Clone,
    C: Complete<S::Response, Permit> + Clone,
{
    type Response = C::Response;
    type Error = Error<S::Error>;
    type Future = ResponseFuture<S, Req, J, C>;

    /// Always ready: whether a request is admitted depends on its terms.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let entry = self.limiter.enter(self.terms.terms(&request));
        let (service, judge, complete) = (self.inner.clone(), self.judge.clone(), self.complete.clone());
        ResponseFuture::new(entry, service, request, judge, complete)
    }
}

/// Puts a [`Limit`] around a service, for use with `tower::ServiceBuilder`.
///
/// ```
/// use std::time::Duration;
/// use buttress::overload::{Gradient, LimitLayer, Limiter, Priority, Queue, Terms};
/// use tower::{ServiceBuilder, service_fn};
///
/// let limiter = Limiter::new(Gradient::default(), Queue::default());
/// let matters = |path: &&str| match *path {
///     "/login" => Terms::new(Priority::CriticalPlus),
///     "/prefetch" => Terms::new(Priority::Sheddable),
///     _ => Terms::default(),
/// };
/// let service = ServiceBuilder::new()
///     .layer(LimitLayer::new(limiter).terms(matters))
///     .timeout(Duration::from_secs(1))
///     .service(service_fn(|path: &'static str| async move { Ok::<_, std::io::Error>(path) }));
/// # let _ = service;
/// ```
#[derive(Clone, Debug)]
pub struct LimitLayer<T = SameTerms, J = ErrorsFail, C = OnResponse> {
    template: Limit<(), T, J, C>,
}

impl LimitLayer {
    /// A layer around services that share this limiter.
    pub fn new(limiter: Limiter) -> Self {
        let (terms, judge, complete) = (SameTerms, ErrorsFail, OnResponse);
        Self { template: Limit { inner: (), limiter, terms, judge, complete } }
    }
}

impl<T, J, C> LimitLayer<T, J, C> {
    /// As [`Limit::terms`].
    #[must_use]
    pub fn terms<T2>(self, terms: T2) -> LimitLayer<T2, J, C> {
        LimitLayer { template: self.template.terms(terms) }
    }

    /// As [`Limit::classify`].
    #[must_use]
    pub fn classify<J2>(self, judge: J2) -> LimitLayer<T, J2, C> {
        LimitLayer { template: self.template.classify(judge) }
    }

    /// As [`Limit::complete`].
    #[must_use]
    pub fn complete<C2>(self, complete: C2) -> LimitLayer<T, J, C2> {
        LimitLayer { template: self.template.complete(complete) }
    }
}

impl<S, T: Clone, J: Clone, C: Clone> Layer<S> for LimitLayer<T, J, C> {
    type Service = Limit<S, T, J, C>;

    fn layer(&self, inner: S) -> Self::Service {
        let Limit { limiter, terms, judge, complete, .. } = self.template.clone();
        Limit { inner, limiter, terms, judge, complete }
    }
}
