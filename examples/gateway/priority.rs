//! How much requests matter, for clusters that have too many of them.

use std::{
    str::FromStr,
    task::{Context, Poll},
};

use buttress::{
    forward::{PeerAddr, TrustedProxies},
    overload::{Priority, Terms, TermsOf},
};
use hyper::{
    Request,
    header::{HeaderName, HeaderValue},
};
use tower::Service;

/// A priority by its name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rank(Priority);

const NAMES: [(&str, Priority); 4] = [
    ("sheddable", Priority::Sheddable),
    ("sheddable_plus", Priority::SheddablePlus),
    ("critical", Priority::Critical),
    ("critical_plus", Priority::CriticalPlus),
];

impl FromStr for Rank {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = NAMES.iter().find(|(name, _)| *name == text);
        known.map(|(_, priority)| Self(*priority)).ok_or_else(|| {
            let names = NAMES.map(|(name, _)| name).join(", ");
            format!("{text:?} is no priority of mine: there are {names}")
        })
    }
}

/// Marks requests with the priority of the route that they came by.
#[derive(Clone, Debug)]
pub(crate) struct Ranked<S> {
    inner: S,
    rank: Option<Rank>,
}

impl<S> Ranked<S> {
    pub(crate) fn new(inner: S, rank: Option<Rank>) -> Self {
        Self { inner, rank }
    }
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for Ranked<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        if let Some(Rank(priority)) = self.rank {
            request.extensions_mut().insert(priority);
        }
        self.inner.call(request)
    }
}

/// Finds out how much a request matters: what a trusted proxy says in a header, or else what its route says. A client that
/// may say so itself would always say that it matters most.
#[derive(Clone, Debug, Default)]
pub(crate) struct Matters {
    header: Option<HeaderName>,
    trusted: TrustedProxies,
}

impl Matters {
    /// Believes this header, if one of these sends it.
    pub(crate) fn by_header(header: Option<HeaderName>, trusted: TrustedProxies) -> Self {
        Self { header, trusted }
    }

    fn said<B>(&self, request: &Request<B>) -> Option<Priority> {
        let said = request.headers().get(self.header.as_ref()?).map(HeaderValue::to_str)?;
        let &PeerAddr(peer) = request.extensions().get()?;
        let Rank(priority) = said.ok()?.parse().ok()?;
        self.trusted.contains(peer.ip()).then_some(priority)
    }
}

impl<B> TermsOf<Request<B>> for Matters {
    fn terms(&self, request: &Request<B>) -> Terms {
        let priority = self.said(request).or_else(|| request.extensions().get().copied());
        Terms::new(priority.unwrap_or_default())
    }
}
