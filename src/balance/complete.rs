//! When a request is over.

use crate::cluster::LoadGuard;

/// Counts a request in for as long as it is kept.
pub trait Guard: Send + Sync + 'static {
    /// The response broke off after it had begun.
    fn break_off(&mut self) {}
}

impl Guard for LoadGuard {
    fn break_off(&mut self) {
        Self::break_off(self);
    }
}

/// Decides when a request counts as over, by keeping its guard until then.
///
/// A response may be the end of it, or only the beginning of a body that streams for minutes. The guard is a
/// [`LoadGuard`] in a [`Balance`](super::Balance), and a permit in a [`Limit`](crate::overload::Limit).
pub trait Complete<Res, G = LoadGuard> {
    /// What the caller gets.
    type Response;

    /// Gives the response on, with the guard in it if the request is not over yet.
    fn complete(&self, guard: G, response: Res) -> Self::Response;
}

/// A request is over when its response is there.
#[derive(Clone, Copy, Debug, Default)]
pub struct OnResponse;

impl<Res, G> Complete<Res, G> for OnResponse {
    type Response = Res;

    #[inline]
    fn complete(&self, guard: G, response: Res) -> Res {
        drop(guard);
        response
    }
}
