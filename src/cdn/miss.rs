//! Requests that cannot be answered from memory at once.

use std::{error::Error, future::pending, ops::Range, panic, sync::Arc};

use bytes::Bytes;
use http::{HeaderName, Method, Request, Response, StatusCode, request};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};
use tower_service::Service;

use super::{
    Body, Finish,
    answer::{Served, is_special},
    body::{Growing, Head},
    fetch::{Asked, Fetched, send},
    fill::{Declined, Entered, Reader, Writer},
    handle::Shared,
    key::Key,
    lead::{Lead, TOO_LARGE, Told, declared, in_background},
    policy::{CacheStatus, Failure, Forward, HeadUpdate, Moment, Reuse, Stored, Why},
    store::{Lookup, Mark, Object},
};

/// How often a request waits for one that then fails, before it goes alone.
const FAILURES: u32 = 3;

/// How often a request waits for one that turns out to be for another variant.
const VARIANTS: u32 = 16;

/// What there is for a request.
pub(super) enum Look {
    Hit(Response<Body>),
    Miss(Missing),
}

/// Why a request goes to the origin, and how.
pub(super) struct Missing {
    pub(super) forward: Forward,
    /// What may be validated, or completed.
    found: Option<Arc<Object>>,
    company: Company,
}

/// What is missing of the bytes that a request asks for.
struct Gap {
    /// Of the whole.
    length: u64,
    wanted: Range<u64>,
    gap: Range<u64>,
}

/// With whom a request goes to the origin.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Company {
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
        let now = self.now();
        let (forward, company) = match self.store.lookup(key, &request.headers, now.instant) {
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
        now: Moment,
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
    fn suits(&self, mine: &Asked, names: &[HeaderName], other: &Asked, head: Option<&Head>) -> bool {
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
        match self.policy(request).reuse(stored, request, self.now()) {
            Reuse::Fresh { age } | Reuse::Stale { age, .. } => Some(age),
            Reuse::Validate(_) => None,
        }
    }

    /// The answer to one who followed. `None` if it is not for this request.
    fn follow(
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
                let age = self.policy(request).on_failure(object.stored(), request, self.now(), *failure)?;
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

/// A request on its way through the cache.
pub(super) struct Miss<S, B> {
    pub(super) shared: Arc<Shared>,
    pub(super) service: S,
    pub(super) asked: Arc<Asked>,
    pub(super) body: B,
}

impl<S, B, RB> Miss<S, B>
where
    S: Service<Request<B>, Response = Response<RB>> + Clone + Send + 'static,
    S::Error: Send + 'static,
    S::Future: Send + 'static,
    B: Default + Send + 'static,
    RB: http_body::Body<Data = Bytes> + Send + 'static,
    RB::Error: Into<Box<dyn Error + Send + Sync>>,
{
    /// The answer to a request for which nothing was there at first.
    pub(super) async fn run(self, missing: Missing) -> Result<Response<Body>, S::Error> {
        let mut missing = missing;
        if missing.found.is_none() {
            let Asked { parts, key, .. } = &*self.asked;
            if let Some((object, mark)) = self.shared.store.recall(key, &parts.headers).await {
                let now = self.shared.now();
                match self.shared.judge(parts, &object, mark, now, |object| self.revalidate(object)) {
                    Look::Hit(response) => return Ok(response),
                    Look::Miss(instead) => missing = instead,
                }
            }
        }
        if self.shared.policy(&self.asked.parts).only_if_cached(&self.asked.parts) {
            return Ok(self.shared.nothing_cached());
        }
        if self.shared.max_wait.is_zero() {
            missing.company = Company::Alone;
        }
        let deadline = Instant::now() + self.shared.max_wait;
        let (mut failures, mut variants, mut names) = (0, 0, Vec::new());
        loop {
            let reader = match missing.company {
                Company::Alone => return self.alone(missing).await,
                Company::Follow => match self.fills_follow(&names) {
                    None => return self.alone(missing).await,
                    Some(reader) => reader,
                },
                Company::Any => match self.fills_enter(&names) {
                    Entered::Full => return self.alone(missing).await,
                    Entered::Follow(reader) => reader,
                    Entered::Lead(_, writer, reader) => {
                        let lead = self.lead_with(writer);
                        // It may have been stored since, or something else that changes how to go.
                        missing = match self.look() {
                            Look::Hit(response) => return Ok(response),
                            Look::Miss(missing) if missing.company == Company::Any => {
                                return self.lead(lead, reader, missing).await;
                            }
                            Look::Miss(missing) => missing,
                        };
                        continue;
                    }
                },
            };
            let Ok(head) = timeout_at(deadline, reader.head()).await else {
                return self.alone(missing).await;
            };
            match head {
                Ok(head) => {
                    if let Some(response) = self.shared.follow(&head, reader, &self.asked, missing.forward) {
                        return Ok(response);
                    }
                    let stored = match &head {
                        Head::Growing(growing) => &growing.stored,
                        Head::Good(object) | Head::Failed(object, _) => object.stored(),
                    };
                    variants += 1;
                    if stored.selects(&self.asked.parts.headers) || variants >= VARIANTS {
                        // It is for this very request, and cannot answer it; nor would another one.
                        return self.alone(missing).await;
                    }
                    names = stored.varies_on().cloned().collect();
                }
                Err(Declined::Unshared) => return self.alone(missing).await,
                Err(Declined::Failed) => failures += 1,
            }
            match self.look() {
                Look::Hit(response) => return Ok(response),
                Look::Miss(again) => missing = again,
            }
            if failures >= FAILURES {
                missing.company = Company::Alone;
            }
        }
    }

    fn look(&self) -> Look {
        let Asked { parts, key, .. } = &*self.asked;
        self.shared.look(parts, key, |object| self.revalidate(object))
    }

    fn revalidate(&self, object: Arc<Object>) {
        let Asked { parts, key, .. } = &*self.asked;
        self.shared.revalidate(|| self.service.clone(), parts, key, object);
    }

    fn lead_with(&self, writer: Writer<Head>) -> Lead {
        let (shared, asked) = (Arc::clone(&self.shared), Arc::clone(&self.asked));
        Lead { finish: shared.finish, shared, asked, writer }
    }

    fn fills_follow(&self, names: &[HeaderName]) -> Option<Reader<Head>> {
        let suits =
            |other: &Arc<Asked>, head: Option<&Head>| self.shared.suits(&self.asked, names, other, head);
        self.shared.fills.follow(&self.asked.key, suits)
    }

    fn fills_enter(&self, names: &[HeaderName]) -> Entered<Arc<Asked>, Head> {
        let suits =
            |other: &Arc<Asked>, head: Option<&Head>| self.shared.suits(&self.asked, names, other, head);
        let go_on = self.shared.finish != Finish::Never;
        self.shared.fills.enter(&self.asked.key, go_on, suits, Arc::clone(&self.asked))
    }

    /// Goes to the origin for all who follow.
    async fn lead(
        self,
        lead: Lead,
        reader: Reader<Head>,
        missing: Missing,
    ) -> Result<Response<Body>, S::Error> {
        let Self { shared, service, asked, body } = self;
        let (tell, told) = oneshot::channel();
        let is_ours = missing.found.as_ref().is_some_and(|found| found.stored().has_validator());
        let task = tokio::spawn(lead.run(service, body, missing.found, Some(tell)));
        let status = CacheStatus { fwd: Some(missing.forward), ..CacheStatus::default() };
        match told.await {
            Ok(Told::Head(head, growing)) => {
                shared.count_forward(missing.forward);
                let status = CacheStatus { fwd_status: Some(head.status), stored: true, ..status };
                Ok(shared.begun(*head, &growing, reader, is_ours.then_some(&asked.parts), status))
            }
            Ok(Told::Shared(head)) => {
                let (object, status) = shared.told_of(&head, status);
                let age = object.stored().age(shared.now());
                Ok(shared.answer(&object, &asked.parts, age, status).unwrap_or_else(|| shared.lost(status)))
            }
            Ok(Told::Own(response, why)) => {
                shared.count_forward(missing.forward);
                Ok(shared.own(*response, CacheStatus { detail: Some(why), ..status }))
            }
            Ok(Told::Error(error)) => {
                shared.count_forward(missing.forward);
                Err(error)
            }
            Err(_) => match task.await {
                Err(error) if error.is_panic() => panic::resume_unwind(error.into_panic()),
                // The runtime is being shut down.
                _ => pending().await,
            },
        }
    }

    /// Goes to the origin for itself. What comes is stored if it may be.
    async fn alone(mut self, missing: Missing) -> Result<Response<Body>, S::Error> {
        if self.asked.parts.method == Method::HEAD {
            return self.head(missing).await;
        }
        let status = CacheStatus { fwd: Some(missing.forward), ..CacheStatus::default() };
        let mut found = missing.found;
        // Other parts of what is asked for, to which this one is added.
        let mut others = None;
        if missing.forward == Forward::Partial
            && let Some(object) = found.take()
        {
            if self.gap(&object).is_none() {
                others = Some(object);
            } else {
                match self.complete(&object, status).await? {
                    Some(response) => {
                        self.shared.count_forward(missing.forward);
                        return Ok(response);
                    }
                    None => self.shared.store.discard(&self.asked.key, &object),
                }
            }
        }
        let body = std::mem::take(&mut self.body);
        let fetched = self.shared.fetch(&mut self.service, &self.asked, body, found.clone()).await;
        if !matches!(fetched, Fetched::Good { .. } | Fetched::Failed(..)) {
            self.shared.count_forward(missing.forward);
        }
        match fetched {
            Fetched::Storable(response, stored) => {
                let is_ours = found.as_ref().is_some_and(|found| found.stored().has_validator());
                let request = is_ours.then_some(&self.asked.parts);
                Ok(self.begin(response, *stored, others, request, status))
            }
            Fetched::Good { object, .. } => {
                let (object, status) = self.shared.told_of(&Head::Good(object), status);
                let age = object.stored().age(self.shared.now());
                if let Some(response) = self.shared.answer(&object, &self.asked.parts, age, status) {
                    return Ok(response);
                }
                match self.complete(&object, status).await? {
                    Some(response) => Ok(response),
                    None => Ok(self.shared.lost(status)),
                }
            }
            Fetched::Failed(object, failure) => {
                let (object, status) = self.shared.told_of(&Head::Failed(object, failure), status);
                let age = object.stored().age(self.shared.now());
                let response = self.shared.answer(&object, &self.asked.parts, age, status);
                Ok(response.unwrap_or_else(|| self.shared.lost(status)))
            }
            Fetched::Pass(response, why) => {
                self.shared.note_unshared(&self.asked, found.as_ref(), response.status(), why);
                let status = CacheStatus { detail: Some(why.as_str()), ..status };
                Ok(self.shared.own(response.map(Body::passing), status))
            }
            Fetched::Error(error) => Err(error),
        }
    }

    /// Stores a response while its client reads it. `request` is given if its conditions and its range were not passed on.
    fn begin(
        &self,
        response: Response<RB>,
        stored: Stored,
        old: Option<Arc<Object>>,
        request: Option<&request::Parts>,
        status: CacheStatus,
    ) -> Response<Body> {
        let status = CacheStatus { fwd_status: Some(response.status()), stored: true, ..status };
        match self.pump(response, stored, old) {
            Ok((head, growing, reader)) => self.shared.begun(head, &growing, reader, request, status),
            Err(response) => {
                self.shared.own(response, CacheStatus { stored: false, detail: Some(TOO_LARGE), ..status })
            }
        }
    }

    /// Lets a task take in and store the body of a response; or gives the response back, if it is too large.
    #[allow(clippy::result_large_err, reason = "is no error")]
    #[allow(clippy::type_complexity, reason = "used twice")]
    fn pump(
        &self,
        response: Response<RB>,
        stored: Stored,
        old: Option<Arc<Object>>,
    ) -> Result<(http::response::Parts, Arc<Growing>, Reader<Head>), Response<Body>> {
        let (head, body) = response.into_parts();
        let length = declared(&head, &body);
        let (writer, reader) = self.shared.fills.aside();
        match reader {
            Some(reader) if length.is_none_or(|length| length <= self.shared.max_object) => {
                let growing = Arc::new(Growing { stored, length });
                let lead = self.lead_with(writer);
                lead.announce(Head::Growing(Arc::clone(&growing)), length);
                let task = Arc::clone(&growing);
                tokio::spawn(async move { lead.pump(body, &task.stored, old).await });
                Ok((head, growing, reader))
            }
            _ => {
                self.shared.mark_unshared(&self.asked.key);
                Err(Response::from_parts(head, Body::passing(body)))
            }
        }
    }

    /// Which bytes are asked for, and which of them are missing. `None` if that are all of them, or cannot be told.
    fn gap(&self, object: &Object) -> Option<Gap> {
        let length = object.length()?;
        let wanted = Served::new(object.stored(), Some(length), &self.asked.parts, 0)?.bytes?;
        let missing = object.missing(wanted.clone());
        let gap = missing.first()?.start..missing.last()?.end;
        (gap != wanted).then_some(Gap { length, wanted, gap })
    }

    /// Asks for the bytes that are missing. `None` if that is no use: the whole request has to be sent.
    async fn complete(
        &mut self,
        object: &Arc<Object>,
        status: CacheStatus,
    ) -> Result<Option<Response<Body>>, S::Error> {
        let shared = Arc::clone(&self.shared);
        let asked = Arc::clone(&self.asked);
        let policy = shared.policy(&asked.parts);
        let old = object.stored();
        let Some(Gap { length, wanted, gap }) = self.gap(object) else { return Ok(None) };

        let mut parts = asked.parts.clone();
        // The client's conditions were evaluated here, and hold. All the rest is asked for as such: the length may be wrong.
        let until = if gap.end == length { u64::MAX } else { gap.end };
        old.ask_for(&mut parts.headers, &(gap.start..until));
        let sent = shared.now();
        let response = send(&mut self.service, Request::from_parts(parts.clone(), B::default())).await?;
        let received = shared.now();
        let (mut head, body) = response.into_parts();
        if let Some(change) = &shared.overrides {
            change(&asked.parts, &mut head);
        }
        if !matches!(head.status, StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
            return Ok(None);
        }
        let new = policy.store(&parts, &head, sent, received);
        let response = Response::from_parts(head, body);
        if response.status() == StatusCode::OK {
            return Ok(Some(match new {
                Ok(new) => self.begin(response, new, None, Some(&asked.parts), status),
                Err(why) => {
                    shared.note_unshared(&asked, Some(object), response.status(), why);
                    let status = CacheStatus { detail: Some(why.as_str()), ..status };
                    shared.own(response.map(Body::passing), status)
                }
            }));
        }
        let Ok(new) = new else { return Ok(None) };
        let (Some(part), Some(both)) = (new.part().cloned(), policy.combine(old, &new)) else {
            return Ok(None);
        };
        if part.range.start > gap.start || part.range.end < gap.end {
            return Ok(None);
        }
        let (Some(before), Some(after)) =
            (object.read(wanted.start..gap.start), object.read(gap.end..wanted.end))
        else {
            return Ok(None);
        };
        let age = both.age(received);
        let Some(served) = Served::new(&both, Some(length), &asked.parts, age) else { return Ok(None) };
        let status = CacheStatus { fwd_status: Some(StatusCode::PARTIAL_CONTENT), stored: true, ..status };
        let Ok((_, _, reader)) = self.pump(response, new, Some(Arc::clone(object))) else { return Ok(None) };
        reader.seek(&(gap.start - part.range.start..gap.end - part.range.start));
        let middle = Body::filling(reader, Some(gap.end - gap.start));
        let body = Body::chain([Body::stored(before), middle, Body::stored(after)]);
        Ok(Some(shared.finish(served.head, body, status)))
    }

    /// Passes `HEAD` on, and learns from the answer.
    async fn head(mut self, missing: Missing) -> Result<Response<Body>, S::Error> {
        let Asked { parts, key, ticket } = &*self.asked;
        let shared = &self.shared;
        let policy = shared.policy(parts);
        let sent = shared.now();
        let body = std::mem::take(&mut self.body);
        let answer = send(&mut self.service, Request::from_parts(parts.clone(), body)).await;
        let received = shared.now();
        let status = CacheStatus { fwd: Some(missing.forward), ..CacheStatus::default() };
        let failure = match &answer {
            Err(_) => Some(Failure::Unreachable),
            Ok(response) if response.status().is_server_error() => Some(Failure::Status(response.status())),
            Ok(_) => None,
        };
        if let (Some(found), Some(failure)) = (&missing.found, failure)
            && let Some(age) = policy.on_failure(found.stored(), parts, received, failure)
        {
            let (_, status) = shared.told_of(&Head::Failed(Arc::clone(found), failure), status);
            if let Some(response) = shared.answer(found, parts, age, status) {
                return Ok(response);
            }
        }
        shared.count_forward(missing.forward);
        let (mut head, body) = answer?.into_parts();
        if let Some(change) = &shared.overrides {
            change(parts, &mut head);
        }
        if let Some(found) = &missing.found {
            match policy.refresh_by_head(found.stored(), parts, &head, sent, received) {
                HeadUpdate::Updated(stored) => _ = shared.store.renew(ticket, key, found, *stored),
                HeadUpdate::Invalid => shared.store.discard(key, found),
                HeadUpdate::Unrelated => {}
            }
        }
        Ok(shared.own(Response::from_parts(head, Body::passing(body)), status))
    }
}

impl Shared {
    /// The answer to the client whose request brought it: with the head as the origin sent it, unless the client's own
    /// conditions, given as `request`, were not passed on.
    fn begun(
        &self,
        head: http::response::Parts,
        growing: &Growing,
        reader: Reader<Head>,
        request: Option<&request::Parts>,
        status: CacheStatus,
    ) -> Response<Body> {
        if let Some(request) = request.filter(|request| is_special(&request.headers)) {
            let age = growing.stored.age(self.now());
            if let Some(served) = Served::new(&growing.stored, growing.length, request, age)
                && served.head.0 != growing.stored.status()
            {
                let body = match served.bytes {
                    None => Body::empty(),
                    Some(range) => {
                        reader.seek(&range);
                        Body::filling(reader, Some(range.end - range.start))
                    }
                };
                return self.finish(served.head, body, status);
            }
        }
        let mut response = Response::from_parts(head, Body::filling(reader, growing.length));
        self.tell(response.headers_mut(), status);
        response
    }

    /// An answer for one client.
    pub(super) fn own(&self, mut response: Response<Body>, status: CacheStatus) -> Response<Body> {
        let status = CacheStatus { fwd_status: Some(response.status()), ..status };
        self.tell(response.headers_mut(), status);
        response
    }

    /// What answers instead of the origin, and what is said about it.
    fn told_of(&self, head: &Head, status: CacheStatus) -> (Arc<Object>, CacheStatus) {
        let counters = self.store.counters();
        match head {
            Head::Failed(object, failure) => {
                counters.stale.add(1);
                let (fwd_status, detail) = match failure {
                    Failure::Status(status) => (Some(*status), "stale-if-error"),
                    Failure::Unreachable => (None, "stale-unreachable"),
                };
                (Arc::clone(object), CacheStatus { fwd_status, detail: Some(detail), ..status })
            }
            Head::Good(object) => {
                counters.revalidated.add(1);
                let fwd_status = Some(StatusCode::NOT_MODIFIED);
                let status = CacheStatus { fwd_status, stored: true, ..status };
                (Arc::clone(object), status)
            }
            Head::Growing(_) => unreachable!("it comes with the head of the origin"),
        }
    }

    /// What is stored cannot be read any more: that of all that could be done there is nothing left.
    fn lost(&self, status: CacheStatus) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        self.tell(response.headers_mut(), CacheStatus { detail: Some("lost"), ..status });
        response
    }
}
