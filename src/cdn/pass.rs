//! Requests that the cache has no say in, and what they change.

use std::{error::Error, sync::Arc};

use bytes::Bytes;
use http::{Request, Response, request};
use tower_service::Service;

use super::{
    Body,
    body::{Growing, Head},
    fetch::send,
    handle::Shared,
    key::Key,
    lead::{Lead, declared},
    policy::{CacheStatus, Forward},
};

/// An unsafe request that was sent: whatever comes of it, what is stored for its URL may be outdated.
struct Sent {
    shared: Arc<Shared>,
    key: Option<Key>,
}

impl Drop for Sent {
    fn drop(&mut self) {
        // The client went away, or there was no answer: the origin may have done it all the same.
        if let Some(key) = &self.key {
            self.shared.store.invalidate(key);
        }
    }
}

/// Passes a request on. What it invalidates goes, and what may be stored is stored, if `key` is given.
pub(super) async fn pass<S, B, RB>(
    shared: Arc<Shared>,
    mut service: S,
    parts: request::Parts,
    body: B,
    key: Option<Key>,
    forward: Forward,
) -> Result<Response<Body>, S::Error>
where
    S: Service<Request<B>, Response = Response<RB>>,
    RB: http_body::Body<Data = Bytes> + Send + 'static,
    RB::Error: Into<Box<dyn Error + Send + Sync>>,
{
    shared.count_forward(forward);
    let asked = key.map(|key| shared.ask(parts.clone(), key));
    let is_unsafe = !parts.method.is_safe();
    let target = if is_unsafe { shared.store.keys().of_uri(&parts.uri, &parts.headers).ok() } else { None };
    let mut guard = Sent { shared: Arc::clone(&shared), key: target };
    let sent = shared.now();
    let response = send(&mut service, Request::from_parts(parts.clone(), body)).await;
    let received = shared.now();
    let response = response?;
    // There is an answer, which says what is invalid.
    guard.key = None;
    let status = CacheStatus { fwd: Some(forward), ..CacheStatus::default() };
    let (mut head, body) = response.into_parts();
    if let Some(change) = &shared.overrides {
        change(&parts, &mut head);
    }
    let policy = shared.policy(&parts);
    let mut invalidated = false;
    // Afterwards one cannot tell what else was purged while the request was on its way.
    let asked = asked.filter(|asked| !is_unsafe || shared.store.is_current(&asked.ticket));
    for uri in policy.invalidates(&parts, &head) {
        if let Ok(key) = shared.store.keys().of_uri(&uri, &parts.headers) {
            shared.store.invalidate(&key);
            invalidated = true;
        }
    }
    let Some(asked) = asked else {
        return Ok(shared.own(Response::from_parts(head, Body::passing(body)), status));
    };
    let length = declared(&head, &body);
    // What passed by must not leave a part where there is a whole.
    let stored = policy.store(&parts, &head, sent, received).ok().filter(|stored| stored.part().is_none());
    let is_small = length.is_none_or(|length| length <= shared.max_object);
    let (writer, reader) = shared.fills.aside();
    let (Some(stored), Some(reader), true) = (stored, reader, is_small) else {
        return Ok(shared.own(Response::from_parts(head, Body::passing(body)), status));
    };
    // What it invalidates is older than what it brings.
    let asked = if invalidated { shared.ask(asked.parts.clone(), asked.key.clone()) } else { asked };
    let growing = Arc::new(Growing { stored, length });
    let lead = Lead { shared: Arc::clone(&shared), asked, writer, finish: shared.finish };
    lead.announce(Head::Growing(Arc::clone(&growing)), length);
    tokio::spawn(async move { lead.pump(body, &growing.stored, None).await });
    let status = CacheStatus { stored: true, ..status };
    Ok(shared.own(Response::from_parts(head, Body::filling(reader, length)), status))
}
