//! What lasts as long as an upgraded connection.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// Something to hold on to while an upgraded connection lives, such as the guard that counts a request in flight.
///
/// Whoever answers with `101 Switching Protocols` puts it into the extensions of the response;
/// a reverse proxy keeps it until the tunnel closes.
///
/// ```
/// use buttress::forward::UpgradeLease;
/// use http::Response;
/// use std::sync::Arc;
///
/// let in_flight = Arc::new(());
/// let mut response = Response::new(());
/// response.extensions_mut().insert(UpgradeLease::new(Arc::clone(&in_flight)));
/// assert_eq!(Arc::strong_count(&in_flight), 2);
/// ```
#[derive(Clone)]
pub struct UpgradeLease {
    _held: Arc<dyn Any + Send + Sync>,
}

impl UpgradeLease {
    /// Holds `guard` until the last copy of the lease is dropped.
    pub fn new(guard: impl Any + Send + Sync) -> Self {
        Self { _held: Arc::new(guard) }
    }
}

impl fmt::Debug for UpgradeLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpgradeLease").finish_non_exhaustive()
    }
}
