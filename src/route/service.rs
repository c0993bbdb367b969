//! The service that routes.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use arc_swap::ArcSwap;
use http::{Request, Uri};
use tower_service::Service;

use super::{BadPath, Error, ResponseFuture, Routes, Unmatched};

/// Passes each request on to the service that its rule names.
///
/// The request gets a [`Matched`](super::Matched) as an extension, and its path is changed if the rule says
/// [`rewrite`](super::Rule::rewrite). What no rule matches is an [`Unmatched`] error, unless there is a
/// [`fallback`](Routes::fallback). Behind a [`Proxy`](crate::forward) such errors become answers, 404 and 400, also from
/// within a `tower::BoxError`.
///
/// Which service is meant is known only in `call`, so `poll_ready` is always ready, and the future waits for that
/// service, and for no other, to be ready. All clones share the table.
///
/// ```
/// use buttress::route::{Matched, Route, Routes, Rule};
/// use http::Request;
/// use tower::{Service, ServiceExt, service_fn, util::BoxCloneSyncService};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let service = |name: &'static str| {
///     BoxCloneSyncService::new(service_fn(move |request: Request<()>| async move {
///         let user = request.extensions().get::<Matched>().and_then(|matched| matched.param("id"));
///         Ok::<_, std::convert::Infallible>(format!("{name} {user:?}"))
///     }))
/// };
/// let mut route = Route::new(Routes::new([
///     (Rule::prefix("/"), service("website")),
///     (Rule::path("/users/{id}"), service("users")),
/// ])?);
/// let request = Request::get("/users/7").body(())?;
/// assert_eq!(route.ready().await?.call(request).await?, r#"users Some("7")"#);
///
/// // Requests from now on, of this service and of all its clones, go by the new table.
/// route.replace(Routes::new([(Rule::prefix("/"), service("maintenance"))])?);
/// let request = Request::get("/users/7").body(())?;
/// assert_eq!(route.call(request).await?, "maintenance None");
/// # Ok(())
/// # }
/// ```
pub struct Route<S> {
    routes: Arc<ArcSwap<Routes<S>>>,
}

impl<S> Route<S> {
    /// Routes by this table.
    pub fn new(routes: Routes<S>) -> Self {
        Self { routes: Arc::new(ArcSwap::from_pointee(routes)) }
    }

    /// The table of now.
    pub fn routes(&self) -> Arc<Routes<S>> {
        self.routes.load_full()
    }

    /// Routes by this table from now on. Requests in flight stay where they are.
    pub fn replace(&self, routes: Routes<S>) {
        self.routes.store(Arc::new(routes));
    }

    fn direct<B>(&self, mut request: Request<B>) -> Result<(S, Request<B>), Unmatched>
    where
        S: Clone,
    {
        let routes = self.routes.load();
        let found = routes.find(&request)?;
        let service = found.target().clone();
        let matched = found.to_matched();
        let rewritten = request.uri().path_and_query().and_then(|path| found.rewritten(path)).transpose();
        drop(found);
        if let Some(path) = rewritten? {
            let mut parts = std::mem::take(request.uri_mut()).into_parts();
            parts.path_and_query = Some(path);
            *request.uri_mut() = Uri::from_parts(parts).map_err(|_| BadPath::TooLong)?;
        }
        if let Some(matched) = matched {
            request.extensions_mut().insert(matched);
        }
        Ok((service, request))
    }
}

impl<S> Clone for Route<S> {
    fn clone(&self) -> Self {
        Self { routes: Arc::clone(&self.routes) }
    }
}

impl<S> fmt::Debug for Route<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let routes = self.routes.load();
        let rules: Vec<_> = routes.iter().map(|(rule, _)| rule.to_string()).collect();
        f.debug_struct("Route").field("rules", &rules).finish_non_exhaustive()
    }
}

impl<S, B> Service<Request<B>> for Route<S>
where
    S: Service<Request<B>> + Clone,
{
    type Response = S::Response;
    type Error = Error<S::Error>;
    type Future = ResponseFuture<S, B>;

    /// Always ready: which service matters is known only in `call`.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match self.direct(request) {
            Ok((service, request)) => ResponseFuture::waiting(service, request),
            Err(error) => ResponseFuture::failed(error),
        }
    }
}
