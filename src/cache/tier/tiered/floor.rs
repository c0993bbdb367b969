//! One tier in the stack: what it did, and what it still has to be told.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use super::TierStats;
use crate::cache::tier::{Lookup, Ticket, Tier, TierError};

/// How many changes a tier may have missed before all of it is cleared instead.
const DEBTS: usize = 4096;

pub(super) struct Floor<K, V> {
    pub(super) tier: Arc<dyn Tier<K, V>>,
    debts: Mutex<Debts<K>>,
    is_paying: AtomicBool,
    hits: AtomicU64,
    misses: AtomicU64,
    failures: AtomicU64,
    fills: AtomicU64,
    refused: AtomicU64,
}

/// Changes that the tier may not have made. Until it has, it is not believed.
#[derive(Debug)]
struct Debts<K> {
    /// When each debt was incurred, as a number: one that is incurred again while it is being paid stays.
    keys: HashMap<K, u64>,
    /// All keys.
    all: Option<u64>,
    last: u64,
}

#[derive(Clone, Debug)]
enum Debt<K> {
    Key(K, u64),
    All(u64),
}

/// The task that pays, whose place is free again however it ends.
struct Turn<K, V>(Arc<Floor<K, V>>);

impl<K, V> Drop for Turn<K, V> {
    fn drop(&mut self) {
        self.0.is_paying.store(false, Relaxed);
    }
}

/// Whether the tier works, and cannot take this key or value. If it fails to remove a key for this reason it has nothing
/// of it, so nothing is owed: such keys come from clients, and too many debts have the tier cleared.
fn is_unfit(error: &TierError) -> bool {
    matches!(error, TierError::TooLarge { .. } | TierError::Encode(_))
}

impl<K, V> Floor<K, V> {
    pub(super) fn new(tier: Arc<dyn Tier<K, V>>) -> Self {
        Self {
            tier,
            debts: Mutex::new(Debts { keys: HashMap::new(), all: None, last: 0 }),
            is_paying: AtomicBool::new(false),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            fills: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    fn debts(&self) -> MutexGuard<'_, Debts<K>> {
        self.debts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count<T>(&self, outcome: Result<T, TierError>) -> Result<T, TierError> {
        self.failures.fetch_add(u64::from(outcome.is_err()), Relaxed);
        outcome
    }
}

impl<K, V> Floor<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    pub(super) fn stats(&self) -> TierStats {
        TierStats {
            name: self.tier.name(),
            hits: self.hits.load(Relaxed),
            misses: self.misses.load(Relaxed),
            failures: self.failures.load(Relaxed),
            fills: self.fills.load(Relaxed),
            refused: self.refused.load(Relaxed),
            owed: self.owed(),
        }
    }

    fn owed(&self) -> usize {
        let debts = self.debts();
        debts.keys.len() + usize::from(debts.all.is_some())
    }

    /// What the tier knows; nothing if it does not answer or cannot be believed.
    pub(super) async fn get(self: &Arc<Self>, key: &K) -> Option<Lookup<V>> {
        self.settle(key).await.ok()?;
        let lookup = self.count(self.tier.get(key).await).ok()?;
        self.tally(&lookup);
        self.pay_later();
        Some(lookup)
    }

    /// As [`get`](Self::get), for many.
    pub(super) async fn get_many(self: &Arc<Self>, keys: &[K]) -> Option<Vec<Lookup<V>>> {
        for key in keys {
            self.settle(key).await.ok()?;
        }
        let lookups = self.count(self.tier.get_many(keys).await).ok()?;
        for lookup in &lookups {
            self.tally(lookup);
        }
        self.pay_later();
        Some(lookups)
    }

    fn tally(&self, lookup: &Lookup<V>) {
        let count = if matches!(lookup, Lookup::Hit { .. }) { &self.hits } else { &self.misses };
        count.fetch_add(1, Relaxed);
    }

    pub(super) async fn fill(&self, key: &K, value: &V, ttl: Option<Duration>, ticket: Ticket) {
        if let Ok(taken) = self.count(self.tier.fill(key, value, ttl, ticket).await) {
            let count = if taken { &self.fills } else { &self.refused };
            count.fetch_add(1, Relaxed);
        }
    }

    /// Puts or removes. What may not have happened is owed.
    pub(super) async fn change(
        self: &Arc<Self>,
        key: &K,
        value: Option<(&V, Option<Duration>)>,
    ) -> Result<(), TierError> {
        let outcome = self.count(match value {
            Some((value, ttl)) => self.tier.put(key, value, ttl).await,
            None => self.tier.remove(key).await,
        });
        match &outcome {
            Ok(()) => {
                self.debts().keys.remove(key);
                self.pay_later();
            }
            Err(error) if is_unfit(error) => {
                if value.is_some() {
                    self.owe(key);
                    let _ = self.settle(key).await;
                }
            }
            Err(_) => self.owe(key),
        }
        outcome
    }

    pub(super) async fn clear(&self) -> Result<(), TierError> {
        let outcome = self.count(self.tier.clear().await);
        let mut debts = self.debts();
        let keys = std::mem::take(&mut debts.keys);
        if outcome.is_ok() {
            debts.all = None;
        } else {
            debts.last += 1;
            debts.all = Some(debts.last);
        }
        drop(debts);
        drop(keys);
        outcome
    }

    fn owe(&self, key: &K) {
        let key = key.clone();
        let mut debts = self.debts();
        debts.last += 1;
        let now = debts.last;
        if debts.all.is_some() || debts.keys.len() >= DEBTS && !debts.keys.contains_key(&key) {
            debts.all = Some(now);
            let keys = std::mem::take(&mut debts.keys);
            drop(debts);
            drop(keys);
        } else {
            debts.keys.insert(key, now);
        }
    }

    /// Pays what is owed for a key before it is read.
    async fn settle(&self, key: &K) -> Result<(), TierError> {
        let debt = {
            let debts = self.debts();
            match (debts.all, debts.keys.get(key)) {
                (Some(since), _) => Debt::All(since),
                (None, Some(since)) => Debt::Key(key.clone(), *since),
                (None, None) => return Ok(()),
            }
        };
        self.pay(debt).await
    }

    async fn pay(&self, debt: Debt<K>) -> Result<(), TierError> {
        match debt {
            Debt::All(since) => {
                self.count(self.tier.clear().await)?;
                let mut debts = self.debts();
                if debts.all == Some(since) {
                    debts.all = None;
                }
            }
            Debt::Key(key, since) => {
                match self.count(self.tier.remove(&key).await) {
                    Err(error) if !is_unfit(&error) => return Err(error),
                    _ => {}
                }
                let mut debts = self.debts();
                if debts.keys.get(&key) == Some(&since) {
                    debts.keys.remove(&key);
                }
            }
        }
        Ok(())
    }

    /// Pays all debts in the background, now that the tier answers: other processes may read those keys.
    pub(super) fn pay_later(self: &Arc<Self>) {
        if self.owed() == 0 || self.is_paying.swap(true, Relaxed) {
            return;
        }
        let turn = Turn(Arc::clone(self));
        tokio::spawn(async move {
            while let Some(debt) = turn.0.next_debt() {
                if turn.0.pay(debt).await.is_err() {
                    break;
                }
            }
        });
    }

    fn next_debt(&self) -> Option<Debt<K>> {
        let debts = self.debts();
        let key = || debts.keys.iter().next().map(|(key, since)| Debt::Key(key.clone(), *since));
        debts.all.map(Debt::All).or_else(key)
    }
}
