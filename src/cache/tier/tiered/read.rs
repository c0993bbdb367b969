//! The way down, and back up.

use std::{
    any::Any,
    convert::Infallible,
    hash::Hash,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use super::{Loaded, Shared, Tiered};
use crate::cache::{
    Keep, Lease,
    flight::{FlightError, Leader},
    load::LoadError,
    tier::{Lookup, Ticket},
};

/// How often a caller joins loads of another kind, whose errors it cannot name.
const OTHERS: usize = 8;

/// What the tiers below memory know of a key.
#[derive(Clone, Debug)]
pub(super) enum Descent<V> {
    Found(V),
    /// None of them has it; with the tickets of those that said so.
    Missed(Tickets),
}

type Tickets = Arc<[Option<Ticket>]>;

/// A value on its way up, and how long it may be kept from then on.
struct Found<V> {
    value: V,
    ttl: Option<Duration>,
    then: Instant,
}

impl<K, V> Tiered<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// The value of a key, from the first tier that has it.
    ///
    /// Many who ask at once ask once.
    pub async fn get(&self, key: &K) -> Option<V> {
        if let Some(value) = self.shared.memory.get(key) {
            return Some(value);
        }
        match self.shared.look(key.clone()).await {
            Descent::Found(value) => Some(value),
            Descent::Missed(_) => None,
        }
    }

    /// The values of many keys, in their order, from the first tier that has each: one call for each tier.
    pub async fn get_many(&self, keys: &[K]) -> Vec<Option<V>> {
        let shared = &self.shared;
        let mut values: Vec<_> = keys.iter().map(|key| shared.memory.get(key)).collect();
        let mut wanted: Vec<_> = (0..keys.len()).filter(|at| values[*at].is_none()).collect();
        let mut leases: Vec<_> = keys
            .iter()
            .zip(&values)
            .map(|(key, value)| value.is_none().then(|| shared.memory.lease(key)))
            .collect();
        let mut tickets = vec![Vec::new(); keys.len()];
        for floor in &shared.floors {
            if wanted.is_empty() {
                break;
            }
            let then = shared.clock.now();
            let asked: Vec<_> = wanted.iter().map(|at| keys[*at].clone()).collect();
            let Some(lookups) = floor.get_many(&asked).await else {
                for at in &wanted {
                    tickets[*at].push(None);
                }
                continue;
            };
            let mut missing = Vec::new();
            for (at, lookup) in wanted.into_iter().zip(lookups) {
                match lookup {
                    Lookup::Hit { value, ttl } => {
                        values[at] = Some(value.clone());
                        if let Some(lease) = leases[at].take() {
                            shared.raise(&keys[at], Found { value, ttl, then }, lease, &tickets[at]).await;
                        }
                    }
                    Lookup::Miss(ticket) => {
                        tickets[at].push(Some(ticket));
                        missing.push(at);
                    }
                }
            }
            wanted = missing;
        }
        values
    }

    /// The value of a key: from the first tier that has it, or loaded.
    ///
    /// However many ask at once, every tier is asked once and there is one load, which whoever waits polls: it goes on when
    /// the caller who began it is cancelled, so it must own what it uses. A load that began before its key was put or
    /// removed, here or on another node that could tell, is not kept in any tier, and who comes after that does not
    /// join it.
    ///
    /// # Panics
    /// If the load panics, or asks for its own key.
    pub async fn get_with<F, Fut>(&self, key: &K, load: F) -> V
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = V> + Send + 'static,
    {
        let load = || {
            let load = load();
            async { Ok::<_, Infallible>(load.await) }
        };
        match self.try_get_with(key, load).await {
            Ok(value) => value,
            Err(LoadError::Failed(never)) => match *never {},
            Err(error) => panic!("{error}"),
        }
    }

    /// As [`get_with`](Self::get_with), with a load that may fail. An error is shared with all who wait for the same load,
    /// and is not kept: the next caller loads again.
    ///
    /// # Errors
    /// If the load fails or panics, or asks for its own key.
    pub async fn try_get_with<F, Fut, E>(&self, key: &K, load: F) -> Result<V, LoadError<E>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
        E: Send + Sync + 'static,
    {
        let shared = &self.shared;
        if let Some(value) = shared.memory.get(key) {
            return Ok(value);
        }
        let mut load = Some(load);
        for _ in 0..OTHERS {
            let begin = |leader: &mut Leader| {
                let lease = shared.memory.lease(key);
                leader.joinable_while(lease.watch());
                let load = load.take().map(|load| load());
                let load = async {
                    Some(load?.await.map_err(|error| Arc::new(error) as Arc<dyn Any + Send + Sync>))
                };
                Arc::clone(shared).load(key.clone(), lease, load)
            };
            match shared.loads.run(key.clone(), begin).await? {
                Some(Ok(value)) => return Ok(value),
                Some(Err(error)) => {
                    if let Ok(error) = error.downcast() {
                        return Err(LoadError::Failed(error));
                    }
                }
                None => {}
            }
        }
        match load {
            Some(load) => load().await.map_err(|error| LoadError::Failed(Arc::new(error))),
            None => Err(LoadError::Broken(FlightError::Recursive)),
        }
    }
}

impl<K, V> Shared<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// What a leader does: looks again, descends, loads, and fills.
    async fn load(
        self: Arc<Self>,
        key: K,
        lease: Lease<K, V>,
        load: impl Future<Output = Loaded<V>> + Send,
    ) -> Loaded<V> {
        // It may have come since the caller looked.
        if let Some(value) = self.memory.peek(&key) {
            return Some(Ok(value));
        }
        let tickets = match self.look(key.clone()).await {
            Descent::Found(value) => return Some(Ok(value)),
            Descent::Missed(tickets) => tickets,
        };
        let loaded = load.await?;
        let count = if loaded.is_ok() { &self.loads_done } else { &self.loads_failed };
        count.fetch_add(1, Relaxed);
        if let Ok(value) = &loaded {
            let found = Found { value: value.clone(), ttl: self.ttl, then: self.clock.now() };
            self.raise(&key, found, lease, &tickets).await;
        }
        Some(loaded)
    }

    /// Asks the tiers below memory, once for all who want to know.
    async fn look(self: &Arc<Self>, key: K) -> Descent<V> {
        let nowhere = || Descent::Missed(self.floors.iter().map(|_| None).collect());
        if self.floors.is_empty() {
            return nowhere();
        }
        let begin = |leader: &mut Leader| {
            let lease = self.memory.lease(&key);
            leader.joinable_while(lease.watch());
            Arc::clone(self).descend(key.clone(), lease)
        };
        // Somebody's serde has panicked: the tiers are no help.
        self.lookups.run(key.clone(), begin).await.unwrap_or_else(|_| nowhere())
    }

    async fn descend(self: Arc<Self>, key: K, lease: Lease<K, V>) -> Descent<V> {
        let mut tickets = Vec::with_capacity(self.floors.len());
        for floor in &self.floors {
            let then = self.clock.now();
            match floor.get(&key).await {
                Some(Lookup::Hit { value, ttl }) => {
                    self.raise(&key, Found { value: value.clone(), ttl, then }, lease, &tickets).await;
                    return Descent::Found(value);
                }
                Some(Lookup::Miss(ticket)) => tickets.push(Some(ticket)),
                None => tickets.push(None),
            }
        }
        Descent::Missed(tickets.into())
    }

    /// Copies a value into the tiers above the one that had it: those with a ticket, and memory.
    async fn raise(&self, key: &K, found: Found<V>, lease: Lease<K, V>, tickets: &[Option<Ticket>]) {
        let Found { value, ttl, then } = found;
        // Never longer than it was said below, counted from before it was said.
        let left = |ttl: Option<Duration>| {
            let elapsed = self.clock.now().saturating_duration_since(then);
            ttl.map(|ttl| ttl.saturating_sub(elapsed))
        };
        let keep = left(self.locally(ttl)).map_or(Keep::new(), |ttl| Keep::new().ttl(ttl));
        if !lease.commit_with(value.clone(), &keep) {
            // It is out of date, for all tiers.
            return;
        }
        for (floor, ticket) in self.floors.iter().zip(tickets) {
            let Some(ticket) = ticket else { continue };
            let ttl = left(if floor.tier.is_shared() { ttl } else { self.locally(ttl) });
            if ttl != Some(Duration::ZERO) {
                floor.fill(key, &value, ttl, ticket.clone()).await;
            }
        }
    }
}
