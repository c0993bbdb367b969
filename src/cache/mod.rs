//! Values kept close at hand: bounded maps that many threads share, and what fills them.
//!
//! Begin with [`MemoryCache`]:
//!
//! ```
//! use std::time::Duration;
//!
//! use buttress::cache::MemoryCache;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let cache = MemoryCache::builder(10_000).ttl(Duration::from_secs(60)).build();
//! // However many ask for it at once, it is loaded once.
//! let user = cache.get_with(&42, || async { "Ada" }).await;
//! assert_eq!((user, cache.get(&42)), ("Ada", Some("Ada")));
//! # }
//! ```
//!
//! | for | take |
//! |---|---|
//! | values that a slow source has | [`MemoryCache::get_with`]; with refreshes, stale values and negative ones, [`load::ReadThrough`] |
//! | answers of a tower service | [`CacheLayer`] |
//! | more than memory holds, restarts, several nodes | [`tier::Tiered`]: memory, disk, Redis, loader |
//! | a store that has to learn of changes | [`write::WriteThrough`], [`write::WriteBehind`] |
//! | one piece of work for many callers, without a cache | [`flight::SingleFlight`] |
//!
//! [`Cache`] is what every cache in memory can do. Whoever takes an `Arc<dyn Cache<K, V>>` leaves the choice to the
//! application:
//!
//! | cache | which entry leaves | for |
//! |---|---|---|
//! | [`MemoryCache`] | the one that the traffic needs least, or as an [`evict::Eviction`] says | everything: weights, expiry, tags, listeners |
//! | [`SetCache`] | one of a few, that was not used again | many small entries, lookups on the hot path |
//! | `LruCache` (feature `lru`) | the one whose last use is longest ago, exactly | those who have it already |
//! | `MokaCache` (feature `moka`) | one that is rarely asked for; old and idle ones | those who have it already |
//!
//! `LruCache` keeps what came last, so one scan over many keys empties it, and its threads take turns at a lock. `MokaCache`
//! remembers what is popular and its readers do not wait for each other; in return it tidies up later than it is told,
//! and its length is an estimate.
//!
//! A cache of your own joins in a few lines:
//!
//! ```
//! use std::{collections::BTreeMap, num::NonZeroUsize, sync::{Arc, Mutex}};
//!
//! use buttress::cache::Cache;
//!
//! /// Keeps the largest keys, say the latest blocks of a chain.
//! #[derive(Debug)]
//! struct Latest<V> {
//!     capacity: NonZeroUsize,
//!     blocks: Mutex<BTreeMap<u64, V>>,
//! }
//!
//! impl<V: Clone + Send + std::fmt::Debug> Cache<u64, V> for Latest<V> {
//!     fn get(&self, key: &u64) -> Option<V> {
//!         self.blocks.lock().unwrap().get(key).cloned()
//!     }
//!     fn insert(&self, key: u64, value: V) {
//!         let mut blocks = self.blocks.lock().unwrap();
//!         blocks.insert(key, value);
//!         if blocks.len() > self.capacity.get() {
//!             blocks.pop_first();
//!         }
//!     }
//!     fn remove(&self, key: &u64) -> Option<V> {
//!         self.blocks.lock().unwrap().remove(key)
//!     }
//!     fn len(&self) -> usize {
//!         self.blocks.lock().unwrap().len()
//!     }
//!     fn clear(&self) {
//!         self.blocks.lock().unwrap().clear();
//!     }
//! }
//!
//! let capacity = NonZeroUsize::new(2).unwrap();
//! let cache: Arc<dyn Cache<u64, &str>> = Arc::new(Latest { capacity, blocks: Mutex::default() });
//! for (height, block) in [(7, "g"), (9, "i"), (8, "h")] {
//!     cache.insert(height, block);
//! }
//! assert_eq!((cache.get(&7), cache.get(&8), cache.len()), (None, Some("h"), 2));
//! ```

use std::fmt::Debug;

mod caught;
pub mod evict;
mod expire;
pub mod flight;
mod layer;
pub mod load;
#[cfg(feature = "lru")]
mod lru;
mod memory;
#[cfg(feature = "moka")]
mod moka;
mod set;
pub mod tier;
pub mod write;

pub use self::{
    expire::{Expiry, InvalidJitter},
    layer::{CacheLayer, Cached, CachedFuture},
    memory::{
        Cause, Entry, Iter, Keep, Lease, MemoryCache, MemoryCacheBuilder, RandomState, Snapshot, Stats,
        Update,
    },
};

#[cfg(feature = "lru")]
pub use self::lru::LruCache;
#[cfg(feature = "moka")]
pub use self::moka::{MokaCache, MokaCacheBuilder};
pub use self::set::{CapacityError, SetCache, SetCacheBuilder};

/// Keeps a bounded number of values by key, in memory, for many threads.
///
/// *Bounded* means that there is a limit, set when the cache is made, and that inserting beyond it never fails and
/// never waits for room: an entry leaves instead. That is *eviction*. Which entry leaves, and whether at once or a
/// little later, is the implementation's to say. So a value may be gone by the next call, even one just inserted: a
/// caller must be able to get it again elsewhere.
///
/// What leaves is dropped, and nobody is told. Values come out as clones, so an `Arc` around a large one is well spent,
/// and a value that somebody still holds outlives its eviction.
///
/// No method loads, blocks on I/O or awaits: all may be called from async code.
pub trait Cache<K, V>: Send + Sync + Debug {
    /// The value of a key, if it is here. Counts as a use where uses decide who leaves.
    fn get(&self, key: &K) -> Option<V>;

    /// Keeps a value, in place of an older one of the same key.
    ///
    /// Returns nothing: not every cache can tell exactly what it replaced, or what it evicted.
    fn insert(&self, key: K, value: V);

    /// Takes a value out and returns what [`get`](Self::get) would have: not one that has expired.
    fn remove(&self, key: &K) -> Option<V>;

    /// How many entries there are. May be an estimate: see the implementation.
    fn len(&self) -> usize;

    /// Whether there is no entry; no more exact than [`len`](Self::len).
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Drops every entry that was inserted before this call. None of them is returned after it; their memory may be
    /// freed later.
    fn clear(&self);
}

#[cfg(all(test, feature = "lru", feature = "moka"))]
mod tests {
    use std::{num::NonZeroUsize, sync::Arc, thread};

    use super::*;

    #[test]
    fn caches_can_be_swapped_and_shared_as_objects() {
        let capacity = NonZeroUsize::new(1000).unwrap();
        let caches: [Arc<dyn Cache<u32, String>>; 2] =
            [Arc::new(LruCache::new(capacity)), Arc::new(MokaCache::new(capacity))];
        for cache in caches {
            assert!(cache.is_empty());
            thread::scope(|scope| {
                for thread in 0..4 {
                    let cache = &cache;
                    scope.spawn(move || {
                        for key in thread * 100..(thread + 1) * 100 {
                            cache.insert(key, key.to_string());
                            assert_eq!(cache.get(&key), Some(key.to_string()));
                        }
                    });
                }
            });
            for key in 0..400 {
                assert_eq!(cache.remove(&key), Some(key.to_string()), "{cache:?}");
                assert_eq!(cache.remove(&key), None);
            }
        }
    }

    #[test]
    fn handles_are_send_sync_and_clone() {
        fn check<T: Clone + Send + Sync + 'static>() {}
        check::<LruCache<String, Vec<u8>>>();
        check::<MokaCache<String, Vec<u8>>>();
        // A mutex makes up for values that are not `Sync`.
        check::<LruCache<String, std::cell::Cell<u8>>>();
    }
}
