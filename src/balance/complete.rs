//! When a request is over.

use crate::cluster::LoadGuard;

/// Decides when a request counts as over, by keeping its guard until then.
///
/// A response may be the end of it, or only the beginning of a body that streams for minutes.
pub trait Complete<Res> {
    /// What the caller gets.
    type Response;

    /// Gives the response on, with the guard in it if the request is not over yet.
    fn complete(&self, guard: LoadGuard, response: Res) -> Self::Response;
}

/// A request is over when its response is there.
#[derive(Clone, Copy, Debug, Default)]
pub struct OnResponse;

impl<Res> Complete<Res> for OnResponse {
    type Response = Res;

    #[inline]
    fn complete(&self, guard: LoadGuard, response: Res) -> Res {
        drop(guard);
        response
    }
}
