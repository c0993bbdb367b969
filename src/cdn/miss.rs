//! Requests that cannot be answered from memory at once.

use std::{error::Error, future::pending, panic, sync::Arc};

use bytes::Bytes;
use http::{HeaderName, Request, Response};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};
use tower_service::Service;

use super::{
    Body, Finish,
    body::Head,
    fetch::Asked,
    fill::{Declined, Entered, Reader, Writer},
    handle::Shared,
    lead::{Lead, Told},
    look::{Company, Look, Missing},
    policy::CacheStatus,
    store::Object,
};

/// How often a request waits for one that then fails, before it goes alone.
const FAILURES: u32 = 3;

/// How often a request waits for one that turns out to be for another variant.
const VARIANTS: u32 = 16;

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
                let now = self.shared.clock.now();
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

    pub(super) fn lead_with(&self, writer: Writer<Head>) -> Lead {
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
            Ok(Told::Good(object)) => {
                Ok(shared.still_good(&object, &asked.parts, status).unwrap_or_else(|| shared.lost(status)))
            }
            Ok(Told::Failed(object, failure)) => Ok(shared.stand_in(&object, &asked.parts, failure, status)),
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
}
