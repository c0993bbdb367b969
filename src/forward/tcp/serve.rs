//! The loop that accepts connections.

use std::{
    future::poll_fn,
    io,
    pin::pin,
    sync::Arc,
    task::{Poll, ready},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{AcquireError, OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{sleep, timeout},
};
use tower::BoxError;
use tower_service::Service;

use super::{Connect, Socket, TcpProxy};

/// What a listener waits after an error that will not go away by itself, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl<S> TcpProxy<S>
where
    S: Service<Connect> + Clone + Send + 'static,
    S::Response: Socket,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    /// Serves the connections that come to `listener`, until `shutdown` is ready; then drains.
    ///
    /// At [`max_connections`](Self::max_connections), newcomers wait in the backlog of the listener. Draining closes the
    /// listener, lets open connections go on for the [`drain_timeout`](Self::drain_timeout), and resets those that are left.
    /// Gives back how many these were.
    ///
    /// Dropping the future closes the listener and resets all its connections at once. Clones of the proxy may serve
    /// other listeners at the same time; they share the bound and the counts.
    pub async fn serve(mut self, listener: TcpListener, shutdown: impl Future<Output = ()>) -> usize {
        let mut connections = JoinSet::new();
        {
            let mut shutdown = pin!(shutdown);
            let mut accept = pin!(self.accept_all(&listener, &mut connections));
            poll_fn(|cx| match shutdown.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(()),
                Poll::Pending => accept.as_mut().poll(cx),
            })
            .await;
        }
        drop(listener);
        let drained = timeout(self.drain_timeout, async { while connections.join_next().await.is_some() {} });
        if drained.await.is_ok() {
            return 0;
        }
        let left = connections.len();
        connections.shutdown().await;
        left
    }

    /// Never ends.
    async fn accept_all(&mut self, listener: &TcpListener, connections: &mut JoinSet<()>) {
        loop {
            match accept(listener, &self.slots, connections).await {
                Ok((client, slot)) => {
                    let connection = self.call(client);
                    connections.spawn(async move {
                        // How it went is in the counts, and in those of the nodes.
                        let _ = connection.await;
                        drop(slot);
                    });
                }
                Err(error) if is_the_clients(&error) => {}
                Err(_) => sleep(ACCEPT_PAUSE).await,
            }
        }
    }
}

/// The next connection, and its slot. Those that have ended are forgotten meanwhile.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
    connections: &mut JoinSet<()>,
) -> io::Result<(TcpStream, Slot)> {
    let acquire = || Arc::clone(slots).acquire_owned();
    let mut slot = pin!(acquire());
    poll_fn(|cx| {
        while let Poll::Ready(Some(_)) = connections.poll_join_next(cx) {}
        let free = ready!(slot.as_mut().poll(cx));
        let accepted = listener.poll_accept(cx);
        if accepted.is_pending() {
            // Nobody comes: other listeners may have it meanwhile.
            slot.set(acquire());
        }
        accepted.map_ok(|(client, _)| (client, free))
    })
    .await
}

/// A place among the connections that may be open. The semaphore is never closed.
type Slot = Result<OwnedSemaphorePermit, AcquireError>;

/// Whether the connection broke before it was accepted: the next one may be well.
fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
