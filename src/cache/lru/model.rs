//! Any history leaves what a naive model holds.

use std::hash::Hasher;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Op {
    Get(u8),
    Insert(u8, u32),
    Remove(u8),
    Clear,
}

fn op() -> impl Strategy<Value = Op> {
    let key = 0..24_u8;
    prop_oneof![
        20 => key.clone().prop_map(Op::Get),
        30 => (key.clone(), any::<u32>()).prop_map(|(key, value)| Op::Insert(key, value)),
        8 => key.prop_map(Op::Remove),
        1 => Just(Op::Clear),
    ]
}

/// The latest use last.
struct Model(Vec<(u8, u32)>, usize);

impl Model {
    fn remove(&mut self, key: u8) -> Option<u32> {
        let at = self.0.iter().position(|entry| entry.0 == key)?;
        Some(self.0.remove(at).1)
    }

    fn get(&mut self, key: u8) -> Option<u32> {
        let value = self.remove(key)?;
        self.0.push((key, value));
        Some(value)
    }

    fn insert(&mut self, key: u8, value: u32) {
        self.remove(key);
        self.0.push((key, value));
        if self.0.len() > self.1 {
            self.0.remove(0);
        }
    }
}

/// A key whose hashes all collide.
#[derive(PartialEq, Eq)]
struct Colliding(u8);

impl Hash for Colliding {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

fn agree<K: Hash + Eq + Send>(make: fn(u8) -> K, capacity: usize, ops: &[Op]) -> Result<(), TestCaseError> {
    let cache = LruCache::new(NonZeroUsize::new(capacity).unwrap());
    let mut model = Model(Vec::new(), capacity);
    for op in ops {
        match *op {
            Op::Get(key) => prop_assert_eq!(cache.get(&make(key)), model.get(key)),
            Op::Remove(key) => prop_assert_eq!(cache.remove(&make(key)), model.remove(key)),
            Op::Insert(key, value) => {
                cache.insert(make(key), value);
                model.insert(key, value);
            }
            Op::Clear => {
                cache.clear();
                model.0.clear();
            }
        }
        prop_assert_eq!(cache.len(), model.0.len());
        let order: Vec<u32> = cache.lock().iter().rev().map(|(_, value)| *value).collect();
        prop_assert_eq!(order, model.0.iter().map(|entry| entry.1).collect::<Vec<_>>());
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_history_leaves_what_a_naive_model_holds(
        capacity in 1..20_usize,
        ops in prop::collection::vec(op(), 0..200),
    ) {
        agree(|key| key, capacity, &ops)?;
        agree(Colliding, capacity, &ops)?;
    }
}
