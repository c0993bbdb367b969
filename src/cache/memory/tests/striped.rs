//! Quick enough for Miri: `cargo +nightly miri test --no-default-features --lib striped`.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
};

use super::super::striped::Striped;

#[test]
fn readers_and_writers_of_all_stripes_agree() {
    for stripes in [1, 2, 4] {
        let lock = Striped::new(BTreeMap::new(), stripes);
        thread::scope(|scope| {
            for thread in 0..4 {
                let lock = &lock;
                scope.spawn(move || {
                    for step in 0..30_usize {
                        if (step + thread) % 3 == 0 {
                            lock.write().insert(step, step.to_string());
                            lock.write().remove(&step.saturating_sub(5));
                        } else {
                            let map = lock.read();
                            assert!(map.iter().all(|(step, text)| *text == step.to_string()));
                            map.count(map.contains_key(&step));
                        }
                    }
                });
            }
        });
        let (hits, misses) = lock.counts();
        assert_eq!(hits + misses, 80);
    }
}

#[test]
fn a_panic_gives_the_lock_back() {
    let lock = Striped::new(vec![1], 2);
    for write in [false, true] {
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            if write {
                lock.write().push(2);
            }
            let _held = lock.read();
            panic!("with the lock held");
        }));
        assert!(panicked.is_err());
    }
    lock.write().push(3);
    assert_eq!(*lock.read(), [1, 2, 3]);
}
