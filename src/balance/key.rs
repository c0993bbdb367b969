//! What a request is about, for policies that hash.

use super::Affinity;
use crate::placement::KeyHash;

/// Finds the key of a request.
///
/// Closures from `&Request` to `Option<KeyHash>` will do. A request without a key is sent where there is least to do.
pub trait KeyOf<Req> {
    /// The key of this request, if it has one.
    fn key(&self, request: &Req) -> Option<KeyHash>;

    /// The node that this request is pinned to, if it is: see [`Affinity`].
    fn affinity(&self, request: &Req) -> Option<Affinity> {
        let _ = request;
        None
    }
}

impl<Req, F: Fn(&Req) -> Option<KeyHash>> KeyOf<Req> for F {
    fn key(&self, request: &Req) -> Option<KeyHash> {
        self(request)
    }
}

/// No request has a key.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoKey;

impl<Req> KeyOf<Req> for NoKey {
    fn key(&self, _: &Req) -> Option<KeyHash> {
        None
    }
}
