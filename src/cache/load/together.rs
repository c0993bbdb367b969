//! One load for many keys.

use std::{
    any::Any,
    collections::{HashMap, HashSet},
    future::poll_fn,
    hash::Hash,
    panic::{self, AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
};

use tokio::sync::oneshot;

use crate::cache::flight::{FlightError, Leader, Shared, SingleFlight};

/// How the load of one key went, and whether it is this call that began it.
pub(super) type Outcome<V, X> = (Result<Result<Option<V>, X>, FlightError>, bool);

/// Loads with one call of `fetch` those of `keys` that nobody else is loading, and waits for them and the others.
///
/// `claim` is told of each key that is this call's to load: it returns what is to be done with the value, or the result if
/// there is no need to load.
pub(super) async fn load<K, V, X, S, L, Fut>(
    flights: &SingleFlight<K, Result<Option<V>, X>>,
    keys: &[&K],
    claim: impl Fn(&K, &mut Leader) -> Result<S, Result<Option<V>, X>>,
    fetch: L,
) -> Vec<Outcome<V, X>>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    X: Clone + Send + Sync + 'static,
    S: FnOnce(Option<&V>) + Send + 'static,
    L: FnOnce(Vec<K>) -> Fut,
    Fut: Future<Output = Result<Vec<(K, V)>, X>> + Send + 'static,
{
    let (starter, begun) = oneshot::channel();
    let batch = Shared::new(all(begun));
    let ours = Mutex::new(Vec::new());
    let mut joins: Vec<_> = keys
        .iter()
        .map(|key| {
            let (claim, batch, ours) = (&claim, &batch, &ours);
            flights
                .run((*key).clone(), move |leader| {
                    let claimed = claim(key, leader);
                    if claimed.is_ok() {
                        ours.lock().unwrap_or_else(PoisonError::into_inner).push((*key).clone());
                    }
                    one(batch.join(), (*key).clone(), claimed)
                })
                .without_hand_over()
        })
        .collect();
    // By key: whoever names one twice waits for itself.
    let by_us: HashSet<_> =
        keys.iter().zip(&joins).filter(|(_, join)| join.leads()).map(|(key, _)| *key).collect();
    let ours = std::mem::take(&mut *ours.lock().unwrap_or_else(PoisonError::into_inner));
    if !ours.is_empty() {
        let _ = starter.send(catch_unwind(AssertUnwindSafe(|| Box::pin(fetch(ours)))));
    }

    let mut outcomes: Vec<_> = keys.iter().map(|_| None).collect();
    poll_fn(|cx| {
        let mut waiting = false;
        for (join, outcome) in joins.iter_mut().zip(&mut outcomes) {
            if outcome.is_none() {
                match Pin::new(join).poll(cx) {
                    Poll::Ready(ended) => *outcome = Some(ended),
                    Poll::Pending => waiting = true,
                }
            }
        }
        if waiting { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    outcomes.into_iter().flatten().zip(keys).map(|(outcome, key)| (outcome, by_us.contains(key))).collect()
}

/// A load of many keys, as they find it.
type Batch<K, V, X> = Result<Arc<HashMap<K, V>>, X>;

/// The call for all keys, or with what it panicked before there was a future.
type Begun<Fut> = Result<Pin<Box<Fut>>, Box<dyn Any + Send>>;

/// The call for all keys, once it is known which they are.
async fn all<K: Hash + Eq, V, X, Fut>(begun: oneshot::Receiver<Begun<Fut>>) -> Batch<K, V, X>
where
    Fut: Future<Output = Result<Vec<(K, V)>, X>>,
{
    match begun.await {
        Ok(Ok(load)) => load.await.map(|pairs| Arc::new(pairs.into_iter().collect())),
        Ok(Err(panic)) => panic::resume_unwind(panic),
        // A claim panicked.
        Err(_) => panic::resume_unwind(Box::new("the load of a batch could not begin")),
    }
}

/// The load of one key: its share of the batch.
async fn one<K, V, X, S>(
    batch: Option<Shared<Batch<K, V, X>>>,
    key: K,
    claimed: Result<S, Result<Option<V>, X>>,
) -> Result<Option<V>, X>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    X: Clone + Send + Sync + 'static,
    S: FnOnce(Option<&V>),
{
    let (store, batch) = match (claimed, batch) {
        (Err(found), _) => return found,
        (Ok(store), Some(batch)) => (store, batch),
        (Ok(_), None) => return Ok(None),
    };
    match batch.await {
        Ok(Ok(values)) => {
            let value = values.get(&key);
            store(value);
            Ok(value.cloned())
        }
        Ok(Err(error)) => Err(error),
        // A panic of all is one of each, which is caught where this is polled.
        Err(error) => panic::resume_unwind(Box::new(error.to_string())),
    }
}
