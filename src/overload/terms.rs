//! How much a request matters, and until when.

use std::time::Instant;

/// How much it matters that a request is served: who is turned away first when not all can be.
///
/// The names are from Google's "Site Reliability Engineering", chapter 21. Take it from what you know of the caller or the
/// route; what a client says of itself is a wish.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// May often fail, and be tried again later: backfills, prefetching.
    Sheddable,
    /// May fail at times: batch jobs with retries.
    SheddablePlus,
    /// Somebody waits for the answer. The default.
    #[default]
    Critical,
    /// A failure does serious harm: logins, payments, health checks.
    CriticalPlus,
}

impl Priority {
    /// All of them, those that are turned away first in front.
    pub const ALL: [Self; 4] = [Self::Sheddable, Self::SheddablePlus, Self::Critical, Self::CriticalPlus];
}

/// What admission knows of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// How much it matters.
    pub priority: Priority,
    /// When nobody waits for the answer any more, if known.
    pub deadline: Option<Instant>,
}

impl Terms {
    /// A request of this priority.
    pub const fn new(priority: Priority) -> Self {
        Self { priority, deadline: None }
    }

    /// Sets when nobody waits for the answer any more.
    #[must_use]
    pub const fn deadline(self, at: Instant) -> Self {
        Self { deadline: Some(at), ..self }
    }
}

/// Finds the terms of a request.
///
/// Closures from `&Request` to [`Terms`] will do.
pub trait TermsOf<Req> {
    /// The terms of this request.
    fn terms(&self, request: &Req) -> Terms;
}

impl<Req, F: Fn(&Req) -> Terms> TermsOf<Req> for F {
    fn terms(&self, request: &Req) -> Terms {
        self(request)
    }
}

/// Every request is [`Critical`](Priority::Critical), and has no deadline of its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct SameTerms;

impl<Req> TermsOf<Req> for SameTerms {
    fn terms(&self, _: &Req) -> Terms {
        Terms::default()
    }
}
