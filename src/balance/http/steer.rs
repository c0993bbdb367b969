//! Where whoever stands in front of a balancer steers a request, and learns who answered it.

use http::{Request, Response};

use crate::{
    balance::{Affinity, Balance, Complete, KeyOf},
    cluster::{LoadGuard, NodeId},
    placement::KeyHash,
};

/// The node that gave an answer. A response extension, where the balancer is [`sticky`](Balance::sticky).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedBy(pub NodeId);

impl<S: Send + Sync + 'static, K, J, C> Balance<S, K, J, C> {
    /// Lets a service in front pin HTTP requests: an [`Affinity`] among a request's extensions is honoured, and each
    /// answer says in its extensions by which node it was [`ServedBy`].
    ///
    /// Keys and completion stay as they were set before; set them before, not after. What stands in front is mostly
    /// `sticky::Sticky` (feature `signed`), or something as short as this:
    ///
    /// ```
    /// use buttress::{
    ///     balance::{Affinity, Balance, RoundRobin, http::ServedBy},
    ///     cluster::{Cluster, Node},
    /// };
    /// use bytes::Bytes;
    /// use http::{Request, Response};
    /// use http_body_util::Empty;
    /// use tower::{Service, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let empty = service_fn(|_: Request<()>| async { Ok::<_, std::io::Error>(Response::new(Empty::<Bytes>::new())) });
    /// let cluster = Cluster::new(["a", "b", "c"].map(|id| (Node::new(id), empty)))?;
    /// let mut balance = Balance::http(cluster, RoundRobin).sticky();
    ///
    /// let mut request = Request::new(());
    /// request.extensions_mut().insert(Affinity::Prefer("b".into()));
    /// let response = balance.ready().await?.call(request).await?;
    /// assert_eq!(response.extensions().get(), Some(&ServedBy("b".into())));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn sticky(self) -> Balance<S, Steered<K>, J, Reported<C>> {
        let Self { shared, key, judge, complete } = self;
        Balance { shared, key: Steered(key), judge, complete: Reported(complete) }
    }
}

/// Reads the [`Affinity`] among a request's extensions, and asks `K` for what is not there. See [`Balance::sticky`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Steered<K>(K);

impl<B, K: KeyOf<Request<B>>> KeyOf<Request<B>> for Steered<K> {
    fn key(&self, request: &Request<B>) -> Option<KeyHash> {
        self.0.key(request)
    }

    fn affinity(&self, request: &Request<B>) -> Option<Affinity> {
        request.extensions().get().cloned().or_else(|| self.0.affinity(request))
    }
}

/// Says in each response by which node it was [`ServedBy`]; when the request is over, `C` knows. See
/// [`Balance::sticky`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Reported<C>(C);

impl<B, C: Complete<Response<B>>> Complete<Response<B>> for Reported<C> {
    type Response = C::Response;

    fn complete(&self, guard: LoadGuard, mut response: Response<B>) -> C::Response {
        let node = guard.member().node.id.clone();
        response.extensions_mut().insert(ServedBy(node));
        self.0.complete(guard, response)
    }
}
