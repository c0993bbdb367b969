//! Puts a cache in front of services.

use tower_layer::Layer;

use super::{Cdn, CdnService};

/// Puts a [`Cdn`] in front of services.
#[derive(Clone, Debug)]
pub struct CdnLayer {
    cdn: Cdn,
}

impl CdnLayer {
    /// Puts `cdn` in front of services.
    pub const fn new(cdn: Cdn) -> Self {
        Self { cdn }
    }
}

impl<S> Layer<S> for CdnLayer {
    type Service = CdnService<S>;

    fn layer(&self, inner: S) -> CdnService<S> {
        CdnService::new(self.cdn.clone(), inner)
    }
}
