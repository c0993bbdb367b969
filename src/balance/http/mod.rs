//! Balancing HTTP: verdicts on responses, guards in bodies, and which requests may be sent twice.

mod body;
mod classify;
mod key;
#[cfg(feature = "proxy")]
mod proxy;
mod repeat;
mod steer;

pub use self::{
    body::{OnBody, TrackedBody},
    classify::{ClassifyHttp, NodeError},
    key::{ByClientAddr, ByHeader},
    repeat::{KeptRequest, RepeatHttp},
    steer::{Reported, ServedBy, Steered},
};
use super::{Balance, NoKey, Policy};
use crate::cluster::Cluster;

impl<S: Send + Sync + 'static> Balance<S, NoKey, ClassifyHttp, OnBody> {
    /// Balances HTTP requests: answers are judged by [`ClassifyHttp`], and a request is over when the response body is.
    ///
    /// Works over anything that takes `http` requests: hyper-util clients, axum routers, tonic channels,
    /// [`Upstream`](crate::forward)s.
    ///
    /// ```
    /// use buttress::{balance::{Balance, LeastResponseTime}, cluster::{Cluster, Node}};
    /// use http::{Request, Response};
    /// use http_body_util::{BodyExt, Empty, Full};
    /// use bytes::Bytes;
    /// use tower::{Service, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let hello = service_fn(|_: Request<Empty<Bytes>>| async {
    ///     Ok::<_, std::io::Error>(Response::new(Full::new(Bytes::from("hello"))))
    /// });
    /// let cluster = Cluster::new([(Node::new("a"), hello)])?;
    /// let mut balance = Balance::http(cluster.clone(), LeastResponseTime::new());
    /// let response = balance.ready().await?.call(Request::new(Empty::new())).await?;
    ///
    /// let node = cluster.get("a").unwrap();
    /// assert_eq!(node.member.state.in_flight(), 1, "until the body is read");
    /// assert_eq!(response.into_body().collect().await?.to_bytes(), "hello");
    /// assert_eq!(node.member.state.in_flight(), 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn http(cluster: Cluster<S>, policy: impl Policy) -> Self {
        Balance::new(cluster, policy).classify(ClassifyHttp).complete(OnBody)
    }
}
