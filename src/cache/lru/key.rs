//! Keys as the `lru` crate sees them: no code of the user's runs while it changes an entry.

use std::{
    borrow::Borrow,
    hash::{Hash, Hasher},
    ptr,
};

/// A key in the cache, with its hash.
///
/// The `lru` crate hashes and compares keys again between the steps of one change, and a panic there would leave it
/// torn for good. So what it sees is the stored hash and, from one key in the cache to another, identity. The key's own
/// `Eq` runs in lookups only, before anything changes.
pub(super) struct Hashed<K> {
    pub(super) hash: u64,
    pub(super) key: K,
}

impl<K> Hash for Hashed<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl<K> PartialEq for Hashed<K> {
    fn eq(&self, other: &Self) -> bool {
        ptr::eq(self, other)
    }
}

impl<K> Eq for Hashed<K> {}

/// What a key is looked up by, owned or borrowed.
pub(super) trait Lookup<K> {
    fn parts(&self) -> (u64, &K);
}

impl<K> Lookup<K> for Hashed<K> {
    fn parts(&self) -> (u64, &K) {
        (self.hash, &self.key)
    }
}

impl<K> Lookup<K> for (u64, &K) {
    fn parts(&self) -> (u64, &K) {
        *self
    }
}

impl<'a, K: 'a> Borrow<dyn Lookup<K> + 'a> for Hashed<K> {
    fn borrow(&self) -> &(dyn Lookup<K> + 'a) {
        self
    }
}

impl<K> Hash for dyn Lookup<K> + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.parts().0);
    }
}

impl<K: Eq> PartialEq for dyn Lookup<K> + '_ {
    fn eq(&self, other: &Self) -> bool {
        let ((hash, key), (other_hash, other_key)) = (self.parts(), other.parts());
        hash == other_hash && key == other_key
    }
}

impl<K: Eq> Eq for dyn Lookup<K> + '_ {}

/// Hands the stored hash on.
#[derive(Default)]
pub(super) struct Stored(u64);

impl Hasher for Stored {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("`Hashed` and `Lookup` write one u64")
    }
}
