//! What there is for a request, and with whom it goes to the origin.

use std::{error::Error, sync::Arc, time::Instant};

use bytes::Bytes;
use http::{HeaderName, Method, Request, Response, request};
use tower_service::Service;

use super::{
    Body, Finish,
    answer::is_special,
    body::Head,
    fetch::Asked,
    fill::Reader,
    handle::Shared,
    key::Key,
    lead::{Lead, in_background},
    policy::{CacheStatus, Forward, Reuse, Stored, Why},
    store::{Lookup, Mark, Object},
};

/// What there is for a request.
pub(super) enum Look {
    Hit(Response<Body>),
    Miss(Missing),
}

/// Why a request goes to the origin, and how.
pub(super) struct Missing {
    pub(super) forward: Forward,
    /// What may be validated, or completed.
    pub(super) found: Option<Arc<Object>>,
    pub(super) company: Company,
}

/// With whom a request goes to the origin.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Company {
    /// It leads, or follows who leads already.
    Any,
    /// It follows, but its answer is nothing for others.
    Follow,
    Alone,
}

impl Shared {
    /// What is in memory for a request. `revalidate` is called if that should be validated in the background.
    pub(super) fn look(
        &self,
        request: &request::Parts,
        key: &Key,
        revalidate: impl FnOnce(Arc<Object>),
    ) -> Look {
        // The time of day is nothing to a hit.
        let now = self.clock.now();
        let (forward, company) = match self.store.lookup(key, &request.headers, now) {
            Lookup::Found(object, mark) => return self.judge(request, &object, mark, now, revalidate),
            Lookup::HitForMiss => (Forward::Miss, Company::Alone),
            Lookup::UriMiss => (Forward::UriMiss, Company::Any),
            Lookup::VaryMiss => (Forward::VaryMiss, Company::Any),
        };
        // What the origin answers to conditions, and to `HEAD`, is nothing for others.
        let is_own = request.method == Method::HEAD || is_special(&request.headers);
        let company = match company {
            _ if self.policy(request).refuses_to_store(request) => Company::Alone,
            Company::Any if is_own => Company::Follow,
            company => company,
        };
        Look::Miss(Missing { forward, found: None, company })
    }

    /// What something that was found is good for.
    pub(super) fn judge(
        &self,
        request: &request::Parts,
        object: &Arc<Object>,
        mark: Mark,
        now: Instant,
        revalidate: impl FnOnce(Arc<Object>),
    ) -> Look {
        let stored = object.stored();
        let policy = self.policy(request);
        let reuse = match mark {
            Mark::Live => policy.reuse(stored, request, now),
            Mark::SoftPurged => policy.reuse_purged(stored, request, now),
        };
        let (age, is_stale) = match reuse {
            Reuse::Fresh { age } => (age, false),
            Reuse::Stale { age, .. } => (age, true),
            Reuse::Validate(why) => {
                let forward = if why == Why::Request { Forward::Request } else { Forward::Stale };
                // What never was fresh answers nobody but who asked, so nobody should wait for it.
                let is_own =
                    request.method == Method::HEAD || !stored.has_validator() && is_special(&request.headers);
                let company =
                    if !stored.was_ever_fresh() || !object.is_whole() || policy.refuses_to_store(request) {
                        Company::Alone
                    } else if is_own {
                        Company::Follow
                    } else {
                        Company::Any
                    };
                return Look::Miss(Missing { forward, found: Some(Arc::clone(object)), company });
            }
        };
        let Some(response) = self.answer(object, request, age, CacheStatus::of_hit(stored, now)) else {
            let found = Some(Arc::clone(object));
            return Look::Miss(Missing { forward: Forward::Partial, found, company: Company::Alone });
        };
        let counters = self.store.counters();
        if is_stale {
            counters.stale.add(1);
        } else {
            counters.hits.add(1);
        }
        if matches!(reuse, Reuse::Stale { revalidate: true, .. }) {
            revalidate(Arc::clone(object));
        }
        Look::Hit(response)
    }

    /// Whether an answer on its way is one for a request, as far as can be told; `names` are fields that such answers vary by.
    pub(super) fn suits(
        &self,
        mine: &Asked,
        names: &[HeaderName],
        other: &Asked,
        head: Option<&Head>,
    ) -> bool {
        if !self.store.is_current(&other.ticket) {
            return false;
        }
        match head {
            None => other.agrees(names, &mine.parts.headers),
            Some(Head::Growing(growing)) => self.age_for(&growing.stored, &mine.parts).is_some(),
            Some(Head::Good(object)) => self.age_for(object.stored(), &mine.parts).is_some(),
            Some(Head::Failed(..)) => false,
        }
    }

    /// The age with which something that was just fetched for another may answer a request.
    fn age_for(&self, stored: &Stored, request: &request::Parts) -> Option<u64> {
        if !stored.selects(&request.headers) {
            return None;
        }
        match self.policy(request).reuse(stored, request, self.clock.now()) {
            Reuse::Fresh { age } | Reuse::Stale { age, .. } => Some(age),
            Reuse::Validate(_) => None,
        }
    }

    /// The answer to one who followed. `None` if it is not for this request.
    pub(super) fn follow(
        &self,
        head: &Head,
        reader: Reader<Head>,
        mine: &Asked,
        forward: Forward,
    ) -> Option<Response<Body>> {
        let request = &mine.parts;
        let status = CacheStatus { fwd: Some(forward), collapsed: true, ..CacheStatus::default() };
        let response = match head {
            Head::Growing(growing) => {
                let age = self.age_for(&growing.stored, request)?;
                self.answer_growing(growing, reader, request, age, status)
            }
            Head::Good(object) => {
                let age = self.age_for(object.stored(), request)?;
                self.answer(object, request, age, status)
            }
            Head::Failed(object, failure) => {
                if !object.stored().selects(&request.headers) {
                    return None;
                }
                let age =
                    self.policy(request).on_failure(object.stored(), request, self.clock.now(), *failure)?;
                self.answer(object, request, age, status)
            }
        }?;
        self.store.counters().collapsed.add(1);
        Some(response)
    }

    /// Validates something in the background, unless that is going on already.
    pub(super) fn revalidate<S, B, RB>(
        self: &Arc<Self>,
        service: impl FnOnce() -> S,
        request: &request::Parts,
        key: &Key,
        object: Arc<Object>,
    ) where
        S: Service<Request<B>, Response = Response<RB>> + Send + 'static,
        S::Error: Send,
        S::Future: Send,
        B: Default + Send + 'static,
        RB: http_body::Body<Data = Bytes> + Send + 'static,
        RB::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let is_for_it = |other: &Arc<Asked>| object.stored().selects(&other.parts.headers);
        // Most who come find that it is going on.
        if self.fills.contains(key, is_for_it) {
            return;
        }
        let asked = self.ask(in_background(request), key.clone());
        if let Some((asked, writer)) = self.fills.begin_alone(key, is_for_it, asked) {
            // Nobody reads what is fetched in the background.
            let lead = Lead { shared: Arc::clone(self), asked, writer, finish: Finish::Always };
            tokio::spawn(lead.run(service(), B::default(), Some(object), None));
        }
    }

    pub(super) fn ask(&self, parts: request::Parts, key: Key) -> Arc<Asked> {
        let ticket = self.store.begin(&key);
        Arc::new(Asked { parts, key, ticket })
    }
}
