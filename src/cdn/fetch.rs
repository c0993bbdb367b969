//! One exchange with the origin, and what it comes to.

use std::{future::poll_fn, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header::RANGE, request};
use tower_service::Service;

use super::{
    handle::Shared,
    key::Key,
    lead::in_background,
    policy::{Failure, Forward, Keep, Refreshed, Stored, Unstorable},
    store::{Object, Ticket},
};

/// A request on its way to the origin, for which an answer may be stored.
#[derive(Debug)]
pub(super) struct Asked {
    /// As the client sent it.
    pub(super) parts: request::Parts,
    pub(super) key: Key,
    pub(super) ticket: Ticket,
}

impl Asked {
    /// Whether a request has the same values of these fields, and so gets the same variant.
    pub(super) fn agrees(&self, names: &[HeaderName], headers: &HeaderMap) -> bool {
        let values = |headers: &HeaderMap, name: &HeaderName| -> Vec<HeaderValue> {
            headers.get_all(name).iter().cloned().collect()
        };
        names.iter().all(|name| values(&self.parts.headers, name) == values(headers, name))
    }
}

/// What the origin's answer comes to.
pub(super) enum Fetched<RB, E> {
    /// It may be stored.
    Storable(Response<RB>, Box<Stored>),
    /// What is stored is still good. What came with that may be for this request alone.
    Good { object: Arc<Object>, is_shared: bool },
    /// The origin failed, and what is stored may stand in.
    Failed(Arc<Object>, Failure),
    /// It is not to be stored.
    Pass(Response<RB>, Unstorable),
    /// There is none.
    Error(E),
}

/// Sends a request by this very instance of the service.
pub(super) async fn send<S, B>(service: &mut S, request: Request<B>) -> Result<S::Response, S::Error>
where
    S: Service<Request<B>>,
{
    poll_fn(|cx| service.poll_ready(cx)).await?;
    service.call(request).await
}

impl Shared {
    /// Asks the origin; if `found` can be validated, whether it is still good.
    pub(super) async fn fetch<S, B, RB>(
        &self,
        service: &mut S,
        asked: &Asked,
        body: B,
        found: Option<Arc<Object>>,
    ) -> Fetched<RB, S::Error>
    where
        S: Service<Request<B>, Response = Response<RB>>,
        B: Default,
    {
        let policy = self.policy(&asked.parts);
        let mut body = Some(body);
        let mut validate = found.is_some();
        loop {
            let mut parts = asked.parts.clone();
            let ours = found.as_ref().filter(|_| validate);
            let conditional = ours.is_some_and(|found| found.stored().make_conditional(&mut parts.headers));
            if found.is_some() && !validate {
                // Those who follow expect the whole, which the first attempt would have brought.
                parts = in_background(&parts);
            }
            let asks_for_part = parts.headers.contains_key(RANGE);
            let sent = self.now();
            let answer = send(service, Request::from_parts(parts, body.take().unwrap_or_default())).await;
            let received = self.now();
            let failure = match &answer {
                Err(_) => Some(Failure::Unreachable),
                Ok(response) if response.status().is_server_error() => {
                    Some(Failure::Status(response.status()))
                }
                Ok(_) => None,
            };
            if let (Some(found), Some(failure)) = (&found, failure)
                && self.holds(found, &asked.parts)
                && policy.on_failure(found.stored(), &asked.parts, received, failure).is_some()
            {
                return Fetched::Failed(Arc::clone(found), failure);
            }
            let response = match answer {
                Ok(response) => response,
                Err(error) => return Fetched::Error(error),
            };
            let (mut head, rest) = response.into_parts();
            if let Some(change) = &self.overrides {
                change(&asked.parts, &mut head);
            }
            if conditional
                && head.status == StatusCode::NOT_MODIFIED
                && let Some(found) = &found
            {
                if !found.stored().validated_by(&head) {
                    // It is about something else, which is not here: once more, without conditions.
                    validate = false;
                    continue;
                }
                let Refreshed { stored, keep } =
                    policy.refresh(found.stored(), &asked.parts, &head, sent, received);
                let renewed = match keep {
                    Keep::Replace => self.store.renew(&asked.ticket, &asked.key, found, stored.clone()),
                    Keep::Leave => None,
                    Keep::Remove(_) => {
                        self.store.discard(&asked.key, found);
                        None
                    }
                };
                // What was purged in the meantime is still for those who asked before.
                let object = renewed.unwrap_or_else(|| Arc::new(found.with_head(stored)));
                return Fetched::Good { object, is_shared: keep == Keep::Replace };
            }
            let is_unasked = head.status == StatusCode::PARTIAL_CONTENT && !asks_for_part;
            let stored = match policy.store(&asked.parts, &head, sent, received) {
                Ok(_) if is_unasked => Err(Unstorable::Partial),
                stored => stored,
            };
            let response = Response::from_parts(head, rest);
            return match stored {
                Ok(stored) => Fetched::Storable(response, Box::new(stored)),
                Err(why) => Fetched::Pass(response, why),
            };
        }
    }

    /// What a response that is not stored says about its URL. Whether it says that another attempt may have more luck.
    pub(super) fn note_unshared(
        &self,
        asked: &Asked,
        found: Option<&Arc<Object>>,
        status: StatusCode,
        why: Unstorable,
    ) -> bool {
        if is_unavailable(status) {
            return true;
        }
        // What the request or its conditions brought about says nothing about those to other requests.
        let is_own = matches!(
            why,
            Unstorable::RequestNoStore | Unstorable::Method | Unstorable::UnkeyedInput | Unstorable::Partial
        ) || matches!(
            status,
            StatusCode::NOT_MODIFIED
                | StatusCode::PARTIAL_CONTENT
                | StatusCode::PRECONDITION_FAILED
                | StatusCode::RANGE_NOT_SATISFIABLE
        );
        if is_own {
            return false;
        }
        let is_gone = status.is_success()
            || status.is_redirection()
            || matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE);
        let is_superseded = match why {
            Unstorable::NoStore | Unstorable::Private => true,
            Unstorable::Authorization => false,
            _ => is_gone,
        };
        if let Some(found) = found.filter(|_| is_superseded) {
            // It is not what the origin has any more.
            self.store.discard(&asked.key, found);
        }
        self.mark_unshared(&asked.key);
        false
    }

    /// Nobody waits for the answers of a URL for a while.
    pub(super) fn mark_unshared(&self, key: &Key) {
        let until = self.now().instant.checked_add(self.hit_for_miss);
        if let Some(until) = until {
            self.store.uncacheable(key, until);
        }
    }

    /// Counts a request that goes to the origin.
    pub(super) fn count_forward(&self, forward: Forward) {
        let counters = self.store.counters();
        match forward {
            Forward::Bypass | Forward::Method => counters.bypassed.add(1),
            _ => counters.misses.add(1),
        }
    }
}

/// Whether the origin is overloaded, or cannot be reached: the time for as few requests as possible.
fn is_unavailable(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}
