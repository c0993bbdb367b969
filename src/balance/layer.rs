//! Balancing as a layer.

use std::sync::Arc;

use tower_layer::Layer;

use super::{Balance, Policy};
use crate::cluster::Cluster;

/// Turns a [`Cluster`] into a [`Balance`], for use with `tower::ServiceBuilder`.
///
/// ```
/// use std::time::Duration;
/// use buttress::{balance::{BalanceLayer, RoundRobin}, cluster::{Cluster, Node}};
/// use tower::{ServiceBuilder, service_fn};
///
/// # fn main() -> Result<(), buttress::cluster::ClusterError> {
/// let echo = service_fn(|request: u32| async move { Ok::<_, std::io::Error>(request) });
/// let service = ServiceBuilder::new()
///     .timeout(Duration::from_secs(1))
///     .layer(BalanceLayer::new(RoundRobin))
///     .service(Cluster::new([(Node::new("a"), echo)])?);
/// # let _ = service;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct BalanceLayer {
    policy: Arc<dyn Policy>,
}

impl BalanceLayer {
    /// A layer that balances by `policy`.
    pub fn new(policy: impl Policy) -> Self {
        Self { policy: Arc::new(policy) }
    }
}

impl<S: Send + Sync + 'static> Layer<Cluster<S>> for BalanceLayer {
    type Service = Balance<S>;

    fn layer(&self, cluster: Cluster<S>) -> Balance<S> {
        Balance::new(cluster, Arc::clone(&self.policy))
    }
}
