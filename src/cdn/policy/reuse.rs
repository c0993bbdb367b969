//! Whether a stored response may answer a request (RFC 9111, section 4).

use http::{StatusCode, request};

use super::{Moment, Policy, Stored};

/// Whether a stored response may answer a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// It may: it is fresh.
    Fresh {
        /// Its age in seconds.
        age: u64,
    },
    /// It may, although it is stale: the origin or the client allows it.
    Stale {
        /// Its age in seconds.
        age: u64,
        /// Whether it should be validated in the background (RFC 5861).
        revalidate: bool,
    },
    /// Only after the origin has been asked.
    Validate(Why),
}

/// Why a stored response cannot be used as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// It is stale, or says `no-cache`.
    Stale,
    /// The request asks for it.
    Request,
}

/// How the origin failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It cannot be reached, or closed the connection.
    Unreachable,
    /// It answered with this status.
    Status(StatusCode),
}

impl Policy {
    /// Whether a stored response that [selects](Stored::selects) the request may answer it now.
    pub fn reuse(&self, stored: &Stored, request: &request::Parts, now: Moment) -> Reuse {
        let _ = (stored, request, now);
        todo!()
    }

    /// The same for a response that was softly purged: it counts as stale, even if it would be fresh.
    pub fn reuse_purged(&self, stored: &Stored, request: &request::Parts, now: Moment) -> Reuse {
        let _ = (stored, request, now);
        todo!()
    }

    /// The age of a stored response that may be used because the origin failed; `None` if the failure must be passed on.
    pub fn on_failure(
        &self,
        stored: &Stored,
        request: &request::Parts,
        now: Moment,
        failure: Failure,
    ) -> Option<u64> {
        let _ = (stored, request, now, failure);
        todo!()
    }
}
