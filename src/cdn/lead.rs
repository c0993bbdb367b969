//! The task that fetches what several clients may wait for.

use std::{
    error::Error,
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{
    Request, Response,
    header::{CONTENT_LENGTH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, RANGE},
    request, response,
};
use tokio::{sync::oneshot, time::sleep};
use tower_service::Service;

use super::{
    Body, Finish,
    body::{Growing, Head},
    fetch::{Asked, Fetched},
    fill::{Declined, FillError, Writer},
    handle::Shared,
    policy::{Failure, Stored},
    store::{Object, Parts},
};

/// How long nothing is asked in the background after that has failed.
const PAUSE: Duration = Duration::from_secs(1);

/// Why a response is not stored: as `Cache-Status` tells it.
pub(super) const TOO_LARGE: &str = "too-large";

/// What the client gets whose request went to the origin.
pub(super) enum Told<E> {
    /// The head as the origin sent it. The body comes as it does to everybody.
    Head(Box<response::Parts>, Arc<Growing>),
    /// What is stored is still good.
    Good(Arc<Object>),
    /// The origin failed, and what is stored may stand in.
    Failed(Arc<Object>, Failure),
    /// An answer for this client only, and why it is not stored.
    Own(Box<Response<Body>>, &'static str),
    Error(E),
}

/// An answer that is being fetched. Wherever this is dropped, it is not on its way any more.
pub(super) struct Lead {
    pub(super) shared: Arc<Shared>,
    pub(super) asked: Arc<Asked>,
    pub(super) writer: Writer<Head>,
    /// What becomes of it when nobody reads.
    pub(super) finish: Finish,
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.shared.fills.forget(&self.asked.key, self.writer.fill());
    }
}

impl Lead {
    /// Fetches, tells those who wait, and stores.
    pub(super) async fn run<S, B, RB>(
        self,
        mut service: S,
        body: B,
        found: Option<Arc<Object>>,
        told: Option<oneshot::Sender<Told<S::Error>>>,
    ) where
        S: Service<Request<B>, Response = Response<RB>>,
        B: Default,
        RB: http_body::Body<Data = Bytes> + Send + 'static,
        RB::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let is_background = told.is_none();
        let tell = |answer| _ = told.map(|told| told.send(answer).ok());
        let fetched = {
            let mut fetch = pin!(self.shared.fetch(&mut service, &self.asked, body, found.clone()));
            let fetched = poll_fn(|cx| match fetch.as_mut().poll(cx) {
                Poll::Ready(fetched) => Poll::Ready(Some(fetched)),
                Poll::Pending => self.writer.poll_abandoned(cx).map(|()| None),
            });
            let Some(fetched) = fetched.await else { return };
            fetched
        };
        // What it holds is not needed while the body comes.
        drop(service);
        let mut is_failed = false;
        match fetched {
            Fetched::Storable(response, stored) => {
                let (head, body) = response.into_parts();
                let length = declared(&head, &body);
                if length.is_some_and(|length| length > self.shared.max_object) {
                    self.shared.mark_unshared(&self.asked.key);
                    self.writer.decline(Declined::Unshared);
                    return tell(Told::Own(
                        Box::new(Response::from_parts(head, Body::passing(body))),
                        TOO_LARGE,
                    ));
                }
                let growing = Arc::new(Growing { stored: *stored, length });
                self.announce(Head::Growing(Arc::clone(&growing)), length);
                tell(Told::Head(Box::new(head), Arc::clone(&growing)));
                self.pump(body, &growing.stored, None).await;
            }
            Fetched::Good { object, is_shared: false } => {
                self.writer.decline(Declined::Unshared);
                tell(Told::Good(object));
            }
            Fetched::Good { object, is_shared: true } => {
                self.announce(Head::Good(Arc::clone(&object)), None);
                self.writer.end(Ok(None));
                tell(Told::Good(object));
            }
            Fetched::Failed(object, failure) => {
                is_failed = true;
                self.announce(Head::Failed(Arc::clone(&object), failure), None);
                self.writer.end(Ok(None));
                tell(Told::Failed(object, failure));
            }
            Fetched::Pass(response, why) => {
                is_failed = self.shared.note_unshared(&self.asked, found.as_ref(), response.status(), why);
                self.writer.decline(if is_failed { Declined::Failed } else { Declined::Unshared });
                tell(Told::Own(Box::new(response.map(Body::passing)), why.as_str()));
            }
            Fetched::Error(error) => {
                is_failed = true;
                self.writer.decline(Declined::Failed);
                tell(Told::Error(error));
            }
        }
        if is_failed && is_background {
            // As long as it is on its way, nobody else tries: each hit would.
            sleep(PAUSE).await;
        }
    }

    /// Gives the head to all who wait.
    pub(super) fn announce(&self, head: Head, length: Option<u64>) {
        let go_on = match self.finish {
            Finish::Always => true,
            Finish::KnownLength => length.is_some(),
            Finish::Never => false,
        };
        self.writer.answer(head, length, self.shared.max_object, go_on);
    }

    /// Takes the body in, and stores it if it is whole; with what is there of it already.
    pub(super) async fn pump<RB>(self, body: RB, stored: &Stored, old: Option<Arc<Object>>)
    where
        RB: http_body::Body<Data = Bytes>,
        RB::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let mut body = pin!(body);
        let mut trailers = None;
        let mut was_kept = true;
        loop {
            // A body that is always ready must not have the thread for itself.
            tokio::task::consume_budget().await;
            let frame = poll_fn(|cx| {
                if !ready!(self.writer.poll_room(cx)) {
                    return Poll::Ready(None);
                }
                Pin::as_mut(&mut body).poll_frame(cx).map(Some)
            });
            match frame.await {
                // Nobody wants it any more.
                None => return,
                Some(None) => break,
                Some(Some(Ok(frame))) => match frame.into_data() {
                    Ok(bytes) => {
                        if let Err(error) = self.writer.push(bytes) {
                            return self.writer.end(Err(error));
                        }
                    }
                    Err(frame) => trailers = frame.into_trailers().ok(),
                },
                Some(Some(Err(error))) => {
                    return self.writer.end(Err(FillError::Origin(Arc::from(error.into()))));
                }
            }
            if was_kept && !self.writer.is_keeping() {
                was_kept = false;
                self.shared.mark_unshared(&self.asked.key);
            }
        }
        if let Some(chunks) = self.writer.whole() {
            self.store(stored, chunks, old);
        }
        // Whoever has read it all finds it in the store.
        self.writer.end(Ok(trailers));
    }

    fn store(&self, stored: &Stored, chunks: Vec<Bytes>, old: Option<Arc<Object>>) {
        let Asked { parts, key, ticket } = &*self.asked;
        let body = match stored.part() {
            None => Some(Parts::whole(chunks)),
            Some(part) => {
                let came = chunks.iter().map(|chunk| chunk.len() as u64).sum::<u64>();
                // A body whose end only its own end tells may have been cut off.
                let is_complete = part.range.end.checked_sub(part.range.start) == Some(came);
                is_complete.then(|| Parts::part(part.range.start, chunks, part.complete)).flatten()
            }
        };
        let Some(mut body) = body else { return };
        let mut stored = stored.clone();
        if let Some(length) = body.length() {
            stored.set_length(length);
        }
        if let Some(old) = old.filter(|_| stored.part().is_some())
            && let Some(before) = old.parts()
            && let Some(combined) = self.shared.policy(parts).combine(old.stored(), &stored)
            && let Some(both) = before.combine(&body)
        {
            (stored, body) = (combined, both);
        }
        let _ = self.shared.store.commit(ticket, key, &parts.headers, Object::new(stored, body));
    }
}

/// The length of a body, as the head or the body itself declares it.
pub(super) fn declared(head: &response::Parts, body: &impl http_body::Body) -> Option<u64> {
    let told = head.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    told.or_else(|| body.size_hint().exact())
}

/// What is asked for in the background, and for others: the whole, whatever the client wanted of it.
pub(super) fn in_background(parts: &request::Parts) -> request::Parts {
    let mut parts = parts.clone();
    parts.method = http::Method::GET;
    for name in [IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_RANGE, RANGE] {
        parts.headers.remove(name);
    }
    parts
}
