//! Changes: in all tiers, from the bottom to the top.

use std::{
    hash::{BuildHasher, Hash},
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::sync::{
    MutexGuard,
    broadcast::{Receiver, error::RecvError},
};

use super::{Floor, Incomplete, STRIPES, Shared, Tiered};
use crate::cache::{
    Keep,
    tier::{Notice, TierError},
};

impl<K, V> Tiered<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Keeps a value in all tiers, for the [`ttl`](super::TieredBuilder::ttl) of the builder. As
    /// [`insert_with`](Self::insert_with).
    ///
    /// # Errors
    /// As for [`insert_with`](Self::insert_with).
    pub async fn insert(&self, key: K, value: V) -> Result<(), Incomplete> {
        self.insert_with(key, value, self.shared.ttl).await
    }

    /// Keeps a value in all tiers, in place of older ones, for at most `ttl`.
    ///
    /// When it returns, nobody on this node gets an older value, whatever was under way, and those nodes that hear of
    /// changes are told. Changes of one key are made one after the other. Once begun it is finished, even if the future
    /// is dropped.
    ///
    /// # Errors
    /// If a tier may not have taken it. All others have; this node does not use what that tier has until it was
    /// told to forget it, which happens as soon as it answers. Other nodes may read an older value from it until then.
    pub async fn insert_with(&self, key: K, value: V, ttl: Option<Duration>) -> Result<(), Incomplete> {
        self.change(key, Some((value, ttl))).await
    }

    /// Forgets a key, in all tiers and on those nodes that hear of changes. As [`insert_with`](Self::insert_with).
    ///
    /// # Errors
    /// As for [`insert_with`](Self::insert_with).
    pub async fn remove(&self, key: &K) -> Result<(), Incomplete> {
        self.change(key.clone(), None).await
    }

    /// Forgets all keys, in all tiers and on those nodes that hear of changes.
    ///
    /// # Errors
    /// If a tier may not have done it, or cannot; as for [`insert_with`](Self::insert_with).
    pub async fn clear(&self) -> Result<(), Incomplete> {
        let shared = Arc::clone(&self.shared);
        let work = async move {
            let _turns = shared.all_turns().await;
            let mut failures = Vec::new();
            for floor in shared.floors.iter().rev() {
                if let Err(error) = floor.clear().await {
                    failures.push((floor.tier.name(), error));
                }
            }
            shared.memory.clear();
            Incomplete::unless_empty(failures)
        };
        finish(work).await
    }

    async fn change(&self, key: K, value: Option<(V, Option<Duration>)>) -> Result<(), Incomplete> {
        let shared = Arc::clone(&self.shared);
        let work = async move {
            // Two changes of a key must not pass each other on the way up.
            let _turn = shared.stripes[shared.stripe(&key)].lock().await;
            let mut failures = Vec::new();
            // The lowest first: who reads meanwhile may bring the old value up, but not above where it is void.
            for floor in shared.floors.iter().rev() {
                let value = value.as_ref().map(|(value, ttl)| {
                    (value, if floor.tier.is_shared() { *ttl } else { shared.locally(*ttl) })
                });
                if let Err(error) = floor.change(&key, value).await {
                    failures.push((floor.tier.name(), error));
                }
            }
            match value {
                Some((value, ttl)) => {
                    let keep = shared.locally(ttl).map_or(Keep::new(), |ttl| Keep::new().ttl(ttl));
                    shared.memory.insert_with(key, value, &keep);
                }
                None => drop(shared.memory.remove(&key)),
            }
            Incomplete::unless_empty(failures)
        };
        finish(work).await
    }
}

/// Runs it to its end, though the caller may leave.
async fn finish(
    work: impl Future<Output = Result<(), Incomplete>> + Send + 'static,
) -> Result<(), Incomplete> {
    let done = tokio::spawn(work).await;
    done.unwrap_or_else(|error| Err(Incomplete { failures: vec![("task", TierError::failed(error))] }))
}

impl<K, V> Shared<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    #[allow(clippy::cast_possible_truncation, reason = "any part of a hash will do")]
    fn stripe(&self, key: &K) -> usize {
        self.hasher.hash_one(key) as usize % STRIPES
    }

    /// Waits until no change is under way, and lets none begin.
    async fn all_turns(&self) -> Vec<MutexGuard<'_, ()>> {
        let mut turns = Vec::with_capacity(STRIPES);
        for stripe in &self.stripes {
            turns.push(stripe.lock().await);
        }
        turns
    }

    /// Another node has changed this key: what is local to this one forgets it.
    async fn forget(&self, key: &K) {
        // At once, and again when nobody can read the old value from a local tier any more.
        self.memory.remove(key);
        // A change of ours that is under way may be the older one.
        let _turn = self.stripes[self.stripe(key)].lock().await;
        for floor in self.local_floors() {
            let _ = floor.change(key, None).await;
        }
        self.memory.remove(key);
    }

    /// Other nodes may have changed anything.
    async fn forget_all(&self) {
        self.memory.clear();
        let _turns = self.all_turns().await;
        for floor in self.local_floors() {
            let _ = floor.clear().await;
        }
        self.memory.clear();
    }

    fn local_floors(&self) -> impl Iterator<Item = &Arc<Floor<K, V>>> {
        self.floors.iter().rev().filter(|floor| !floor.tier.is_shared())
    }
}

/// Follows what other nodes do to the shared tier of this number, as long as there are handles.
pub(super) async fn follow<K, V>(shared: Weak<Shared<K, V>>, floor: usize, mut notices: Receiver<Notice<K>>)
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    let mut has_begun = false;
    loop {
        let notice = match notices.recv().await {
            Ok(notice) => notice,
            // The disk has missed them too.
            Err(RecvError::Lagged(_)) => Notice::Cleared,
            Err(RecvError::Closed) => return,
        };
        let Some(shared) = shared.upgrade() else { return };
        match notice {
            Notice::Changed(key) => shared.forget(&key).await,
            // What the disk kept while this node was down is bounded by its age, and all it has to offer.
            Notice::Resumed if !has_begun => shared.memory.clear(),
            Notice::Resumed | Notice::Cleared => shared.forget_all().await,
        }
        has_begun = true;
        shared.floors[floor].pay_later();
    }
}
