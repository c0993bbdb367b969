//! `CacheLayer`: a cache in front of any service.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use buttress::cache::{CacheLayer, MemoryCache};
use tokio::time::sleep;
use tokio_test::{assert_ready, task};
use tower::{Layer, Service, ServiceExt, service_fn};

const STEP: Duration = Duration::from_millis(100);

/// What the service does with its calls, in turn; and then all the same.
#[derive(Clone, Copy, Debug)]
enum Act {
    Answer,
    Fail,
    Panic,
}

/// A service that counts its calls, and answers with their number.
#[derive(Clone)]
struct Origin {
    calls: Arc<AtomicU32>,
    acts: Arc<Mutex<Vec<Act>>>,
}

impl Origin {
    fn new(acts: &[Act]) -> Self {
        Self { calls: Arc::default(), acts: Arc::new(Mutex::new(acts.iter().rev().copied().collect())) }
    }

    fn calls(&self) -> u32 {
        self.calls.swap(0, SeqCst)
    }

    fn service(
        &self,
    ) -> impl Service<u32, Response = u32, Error = io::Error, Future: Send> + Clone + Send + use<> {
        let this = self.clone();
        service_fn(move |_key: u32| {
            let call = this.calls.fetch_add(1, SeqCst) + 1;
            let act = this.acts.lock().unwrap().pop().unwrap_or(Act::Answer);
            async move {
                sleep(STEP).await;
                match act {
                    Act::Answer => Ok(call),
                    Act::Fail => Err(io::Error::other(format!("call {call}"))),
                    Act::Panic => panic!("call {call}"),
                }
            }
        })
    }
}

fn some(key: &u32) -> Option<u32> {
    Some(*key)
}

#[tokio::test(start_paused = true)]
async fn a_hit_needs_no_service() {
    struct Unready;
    impl Clone for Unready {
        fn clone(&self) -> Self {
            panic!("nobody needs it");
        }
    }
    impl Service<u32> for Unready {
        type Response = u32;
        type Error = io::Error;
        type Future = std::future::Ready<io::Result<u32>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn call(&mut self, _: u32) -> Self::Future {
            unreachable!("it is not ready");
        }
    }
    let cache = MemoryCache::new(10);
    cache.insert(1, 7);
    let mut service = CacheLayer::new(cache, some).layer(Unready);
    assert_ready!(task::spawn(ServiceExt::<u32>::ready(&mut service)).poll()).unwrap();
    assert_eq!(assert_ready!(task::spawn(service.call(1)).poll()).unwrap(), 7);
}

#[tokio::test(start_paused = true)]
async fn requests_of_one_key_are_one_and_all_services_of_a_layer_share_the_cache() {
    let origin = Origin::new(&[]);
    let layer = CacheLayer::new(MemoryCache::new(10), some);
    let services = [layer.layer(origin.service()), layer.layer(origin.service())];
    let calls: Vec<_> = (0..100).map(|call| tokio::spawn(services[call % 2].clone().oneshot(1))).collect();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap(), 1);
    }
    assert_eq!(services[1].clone().oneshot(1).await.unwrap(), 1);
    assert_eq!(origin.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_without_a_key_is_passed_on() {
    let origin = Origin::new(&[]);
    let cache = MemoryCache::<u32, u32>::new(10);
    let mut service = CacheLayer::new(cache.clone(), |_: &u32| None).layer(origin.service());
    let calls = [service.call(1), service.call(1)];
    for call in calls {
        call.await.unwrap();
    }
    assert_eq!((origin.calls(), cache.len()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn an_error_keeps_its_type_is_not_kept_and_another_request_takes_over() {
    let origin = Origin::new(&[Act::Fail]);
    let service = CacheLayer::new(MemoryCache::new(10), some).layer(origin.service());
    let calls: Vec<_> = (0..10).map(|_| tokio::spawn(service.clone().oneshot(1))).collect();
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.unwrap());
    }
    let errors: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    assert_eq!(errors.len(), 1, "the trouble of one request");
    assert_eq!(errors[0].to_string(), "call 1");
    assert!(answers.iter().flatten().all(|answer| *answer == 2));
    assert_eq!(origin.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_down_makes_nobody_wait_for_more_than_a_few() {
    let origin = Origin::new(&[Act::Fail; 1000]);
    let service = CacheLayer::new(MemoryCache::new(10), some).layer(origin.service());
    let start = tokio::time::Instant::now();
    let calls: Vec<_> = (0..100).map(|_| tokio::spawn(service.clone().oneshot(1))).collect();
    for call in calls {
        assert!(call.await.unwrap().is_err());
    }
    assert!(start.elapsed() <= STEP * 4);
    assert_eq!(origin.calls(), 100);
}

#[tokio::test(start_paused = true)]
async fn a_response_that_is_refused_reaches_its_own_request_only() {
    let origin = Origin::new(&[]);
    let cache = MemoryCache::new(10);
    let service = CacheLayer::new(cache.clone(), some).keep(|_: &u32| false).layer(origin.service());
    let start = tokio::time::Instant::now();
    let calls: Vec<_> = (0..10).map(|_| tokio::spawn(service.clone().oneshot(1))).collect();
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.unwrap().unwrap());
    }
    answers.sort_unstable();
    assert_eq!(answers, (1..=10).collect::<Vec<_>>(), "one of its own for each");
    assert_eq!(start.elapsed(), STEP * 2, "and they do not stand in line");
    assert_eq!(cache.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_cancelled_takes_nothing_from_those_who_wait() {
    let origin = Origin::new(&[]);
    let service = CacheLayer::new(MemoryCache::new(10), some).layer(origin.service());
    let first = tokio::spawn(service.clone().oneshot(1));
    sleep(STEP / 2).await;
    let second = tokio::spawn(service.clone().oneshot(1));
    tokio::task::yield_now().await;
    first.abort();
    assert_eq!(second.await.unwrap().unwrap(), 1);
    assert_eq!(origin.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_that_of_its_request_and_the_key_stays_usable() {
    let origin = Origin::new(&[Act::Panic]);
    let service = CacheLayer::new(MemoryCache::new(10), some).layer(origin.service());
    let first = tokio::spawn(service.clone().oneshot(1));
    tokio::task::yield_now().await;
    let second = tokio::spawn(service.clone().oneshot(1));
    let panic = first.await.unwrap_err().into_panic();
    assert_eq!(panic.downcast_ref::<String>().unwrap(), "call 1");
    assert_eq!(second.await.unwrap().unwrap(), 2);
    assert_eq!(service.oneshot(1).await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_response_to_what_was_invalidated_meanwhile_is_not_stored() {
    let origin = Origin::new(&[]);
    let cache = MemoryCache::new(10);
    let service = CacheLayer::new(cache.clone(), some).layer(origin.service());
    let first = tokio::spawn(service.clone().oneshot(1));
    sleep(STEP / 2).await;
    cache.remove(&1);
    let second = tokio::spawn(service.clone().oneshot(1));
    assert_eq!((first.await.unwrap().unwrap(), cache.get(&1)), (1, None));
    assert_eq!((second.await.unwrap().unwrap(), cache.get(&1)), (2, Some(2)));
}

/// As a service that is its own client.
#[tokio::test(start_paused = true)]
async fn a_service_that_asks_for_its_own_key_is_asked_and_does_not_hang() {
    type Itself = Arc<Mutex<Option<tower::util::BoxCloneSyncService<u32, u32, io::Error>>>>;
    let (itself, depth) = (Itself::default(), Arc::new(AtomicU32::new(0)));
    let inner = {
        let itself = Arc::clone(&itself);
        service_fn(move |key: u32| {
            let again = itself.lock().unwrap().clone();
            let depth = depth.fetch_add(1, SeqCst);
            async move {
                match again {
                    Some(again) if depth == 0 => again.oneshot(key).await,
                    _ => Ok(7),
                }
            }
        })
    };
    let service = CacheLayer::new(MemoryCache::new(10), some).layer(inner);
    *itself.lock().unwrap() = Some(tower::util::BoxCloneSyncService::new(service.clone()));
    assert_eq!(service.oneshot(1).await.unwrap(), 7);
}
