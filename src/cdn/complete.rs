//! What is there in part, made whole.

use std::{error::Error, ops::Range, sync::Arc};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use tower_service::Service;

use super::{Body, answer::Served, fetch::send, miss::Miss, policy::CacheStatus, store::Object};

/// What is missing of the bytes that a request asks for.
pub(super) struct Gap {
    /// Of the whole.
    length: u64,
    wanted: Range<u64>,
    missing: Range<u64>,
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
    /// Which bytes are asked for, and which of them are missing. `None` if that are all of them, or cannot be told.
    pub(super) fn gap(&self, object: &Object) -> Option<Gap> {
        let length = object.length()?;
        let wanted = Served::new(object.stored(), Some(length), &self.asked.parts)?.bytes?;
        let missing = object.missing(wanted.clone());
        let gap = missing.first()?.start..missing.last()?.end;
        (gap != wanted).then_some(Gap { length, wanted, missing: gap })
    }

    /// Asks for the bytes that are missing. `None` if that is no use: the whole request has to be sent.
    pub(super) async fn complete(
        &mut self,
        object: &Arc<Object>,
        status: CacheStatus,
    ) -> Result<Option<Response<Body>>, S::Error> {
        let shared = Arc::clone(&self.shared);
        let asked = Arc::clone(&self.asked);
        let policy = shared.policy(&asked.parts);
        let old = object.stored();
        let Some(Gap { length, wanted, missing: gap }) = self.gap(object) else { return Ok(None) };

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
        if head.status.is_server_error() {
            // Asking for all of it would be no better.
            return Ok(Some(shared.own(Response::from_parts(head, Body::passing(body)), status)));
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
        // With what came, the client's conditions may come to something else than what the bytes were chosen by.
        let served = Served::new(&both, Some(length), &asked.parts);
        let Some(served) = served.filter(|served| served.bytes.as_ref() == Some(&wanted)) else {
            return Ok(None);
        };
        let status = CacheStatus { fwd_status: Some(StatusCode::PARTIAL_CONTENT), stored: true, ..status };
        let Ok((_, _, reader)) = self.pump(response, new, Some(Arc::clone(object))) else { return Ok(None) };
        reader.seek(&(gap.start - part.range.start..gap.end - part.range.start));
        let middle = Body::filling(reader, Some(gap.end - gap.start));
        let body = Body::chain([Body::stored(before), middle, Body::stored(after)]);
        Ok(Some(shared.serve(&both, &served.form, age, body, status)))
    }
}
