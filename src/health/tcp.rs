//! Whether a node accepts connections.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use tokio::net::{TcpStream, ToSocketAddrs};

use super::{Answer, CheckResult, HealthCheck};
use crate::cluster::Endpoint;

/// Finds a node healthy that accepts a TCP connection, which is closed again at once.
///
/// That is what the node's kernel says: it goes on accepting while an application hangs. Where the application can be
/// asked, ask it.
///
/// ```
/// use std::net::SocketAddr;
/// use buttress::{cluster::{Cluster, Endpoint, Node}, health::{Monitor, TcpCheck}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cluster = Cluster::new([(Node::new("db-1"), SocketAddr::from(([10, 0, 0, 7], 5432)))])?;
/// let check = TcpCheck::new(|endpoint: &Endpoint<SocketAddr>| *endpoint.service);
/// let monitor = Monitor::start(&cluster, check)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct TcpCheck<F> {
    address: F,
}

impl<F> TcpCheck<F> {
    /// A check that connects to the address that `address` finds for a node: a socket address, or a name with a port as
    /// in `"db-1:5432"`, which is looked up for each check.
    pub fn new<S, A>(address: F) -> Self
    where
        F: Fn(&Endpoint<S>) -> A,
        A: ToSocketAddrs,
    {
        Self { address }
    }
}

#[async_trait]
impl<S, F, A> HealthCheck<S> for TcpCheck<F>
where
    S: Send + Sync + 'static,
    F: Fn(&Endpoint<S>) -> A + Send + Sync + 'static,
    A: ToSocketAddrs + Send,
{
    async fn check(&self, endpoint: Arc<Endpoint<S>>) -> CheckResult {
        TcpStream::connect((self.address)(&endpoint)).await?;
        Ok(Answer::Healthy)
    }
}

impl<F> fmt::Debug for TcpCheck<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpCheck").finish_non_exhaustive()
    }
}
