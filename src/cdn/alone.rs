//! Requests that go to the origin for themselves.

use std::{error::Error, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header::RANGE, request, response};
use tower_service::Service;

use super::{
    Body,
    answer::{Form, Served, is_special},
    body::{Growing, Head},
    fetch::{Asked, Fetched, send},
    fill::Reader,
    handle::Shared,
    lead::{TOO_LARGE, declared},
    look::Missing,
    miss::Miss,
    policy::{CacheStatus, Failure, Forward, HeadUpdate, Stored},
    store::Object,
};

/// A response whose body is being taken in: its head, what is stored of it, and who reads it.
pub(super) type Begun = (response::Parts, Arc<Growing>, Reader<Head>);

impl<S, B, RB> Miss<S, B>
where
    S: Service<Request<B>, Response = Response<RB>> + Clone + Send + 'static,
    S::Error: Send + 'static,
    S::Future: Send + 'static,
    B: Default + Send + 'static,
    RB: http_body::Body<Data = Bytes> + Send + 'static,
    RB::Error: Into<Box<dyn Error + Send + Sync>>,
{
    /// Goes to the origin for itself. What comes is stored if it may be.
    pub(super) async fn alone(mut self, missing: Missing) -> Result<Response<Body>, S::Error> {
        if self.asked.parts.method == Method::HEAD {
            return self.head(missing).await;
        }
        let status = CacheStatus { fwd: Some(missing.forward), ..CacheStatus::default() };
        let is_partial = missing.forward == Forward::Partial;
        let (mut partial, mut found) = if is_partial { (missing.found, None) } else { (None, missing.found) };
        loop {
            // Parts of what is asked for, to which what comes is added.
            let mut others = None;
            if let Some(object) = partial.take() {
                if self.gap(&object).is_none() {
                    others = Some(object);
                } else if let Some(response) = self.complete(&object, status).await? {
                    self.shared.count_forward(missing.forward);
                    return Ok(response);
                } else {
                    self.shared.store.discard(&self.asked.key, &object);
                }
            }
            let body = std::mem::take(&mut self.body);
            let fetched = self.shared.fetch(&mut self.service, &self.asked, body, found.clone()).await;
            match fetched {
                Fetched::Storable(response, stored) => {
                    self.shared.count_forward(missing.forward);
                    let is_ours = found.as_ref().is_some_and(|found| found.stored().has_validator());
                    let request = is_ours.then_some(&self.asked.parts);
                    return Ok(self.begin(response, *stored, others, request, status));
                }
                Fetched::Good { object, .. } => {
                    if let Some(response) = self.shared.still_good(&object, &self.asked.parts, status) {
                        return Ok(response);
                    }
                    // It is good, but not all is here. From now on nothing is validated.
                    (partial, found) = (Some(object), None);
                }
                Fetched::Failed(object, failure) => {
                    return Ok(self.shared.stand_in(&object, &self.asked.parts, failure, status));
                }
                Fetched::Pass(response, why) => {
                    self.shared.count_forward(missing.forward);
                    self.shared.note_unshared(&self.asked, found.as_ref(), response.status(), why);
                    let status = CacheStatus { detail: Some(why.as_str()), ..status };
                    return Ok(self.shared.own(response.map(Body::passing), status));
                }
                Fetched::Error(error) => {
                    self.shared.count_forward(missing.forward);
                    return Err(error);
                }
            }
        }
    }

    /// Stores a response while its client reads it. `request` is given if its conditions and its range were not passed on.
    pub(super) fn begin(
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
    pub(super) fn pump(
        &self,
        response: Response<RB>,
        stored: Stored,
        old: Option<Arc<Object>>,
    ) -> Result<Begun, Response<Body>> {
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
            && policy.on_failure(found.stored(), parts, received, failure).is_some()
        {
            return Ok(shared.stand_in(found, parts, failure, status));
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
    pub(super) fn begun(
        &self,
        head: response::Parts,
        growing: &Growing,
        reader: Reader<Head>,
        request: Option<&request::Parts>,
        status: CacheStatus,
    ) -> Response<Body> {
        // A range of what may end before it cannot be promised.
        let can_tell =
            |request: &request::Parts| growing.length.is_some() || !request.headers.contains_key(RANGE);
        if let Some(request) = request.filter(|request| is_special(&request.headers) && can_tell(request))
            && let Some(served) = Served::new(&growing.stored, growing.length, request)
            && served.form != Form::Whole
        {
            let body = match served.bytes {
                None => Body::empty(),
                Some(range) => {
                    reader.seek(&range);
                    Body::filling(reader, Some(range.end - range.start))
                }
            };
            let age = growing.stored.age(self.now());
            return self.serve(&growing.stored, &served.form, age, body, status);
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

    /// What is stored, which the origin said is still good. `None` if some of the bytes are not here.
    pub(super) fn still_good(
        &self,
        object: &Object,
        request: &request::Parts,
        status: CacheStatus,
    ) -> Option<Response<Body>> {
        let status = CacheStatus { fwd_status: Some(StatusCode::NOT_MODIFIED), stored: true, ..status };
        let response = self.answer(object, request, object.stored().age(self.now()), status)?;
        self.store.counters().revalidated.add(1);
        Some(response)
    }

    /// What is stored, in place of an origin that failed.
    pub(super) fn stand_in(
        &self,
        object: &Object,
        request: &request::Parts,
        failure: Failure,
        status: CacheStatus,
    ) -> Response<Body> {
        let (fwd_status, detail) = match failure {
            Failure::Status(status) => (Some(status), "stale-if-error"),
            Failure::Unreachable => (None, "stale-unreachable"),
        };
        let status = CacheStatus { fwd_status, detail: Some(detail), ..status };
        self.store.counters().stale.add(1);
        let age = object.stored().age(self.now());
        self.answer(object, request, age, status).unwrap_or_else(|| self.lost(status))
    }

    /// 502: what is stored could not be read when it was needed.
    pub(super) fn lost(&self, status: CacheStatus) -> Response<Body> {
        let status = CacheStatus { stored: false, detail: Some("lost"), ..status };
        self.finish((StatusCode::BAD_GATEWAY, HeaderMap::new()), Body::empty(), status)
    }
}
