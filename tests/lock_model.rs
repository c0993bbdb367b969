//! The lock of the cache's shards, under every kind of interleaving that a model checker comes up with.

use std::cell::Cell;

use shuttle::{sync::Arc, thread};

use self::striped::Striped;

#[path = "../src/cache/memory/striped.rs"]
mod striped;

/// What the lock takes from the crate, with the checker's types.
mod sync {
    pub(crate) use shuttle::{hint, sync::atomic, thread};

    pub(crate) fn thread_number() -> usize {
        // The checker numbers the threads of a run from 0, the one that starts them.
        usize::from(thread::current().id())
    }
}

/// Two halves that agree whenever nobody writes.
#[derive(Default)]
struct Pair(Cell<u64>, Cell<u64>);

// SAFETY: it is only ever used under the lock, which is what is tested: readers only read.
#[allow(unsafe_code)]
unsafe impl Sync for Pair {}

fn explore(threads: usize, stripes: usize, steps: u64, check: impl Fn(u64, u64) + Send + Sync + 'static) {
    let check = Arc::new(check);
    shuttle::check_random(
        move || {
            let lock = Arc::new(Striped::new(Pair::default(), stripes));
            let threads: Vec<_> = (0..threads)
                .map(|number| {
                    let (lock, check) = (Arc::clone(&lock), Arc::clone(&check));
                    thread::spawn(move || {
                        for step in 0..steps {
                            if (number as u64 + step).is_multiple_of(2) {
                                let pair = lock.write();
                                pair.0.set(pair.0.get() + 1);
                                thread::yield_now();
                                pair.1.set(pair.1.get() + 1);
                                pair.count(true);
                            } else {
                                let pair = lock.read();
                                let first = pair.0.get();
                                thread::yield_now();
                                check(first, pair.1.get());
                                pair.count(true);
                                pair.recount();
                            }
                        }
                    })
                })
                .collect();
            let spawned = threads.len() as u64;
            for thread in threads {
                thread.join().unwrap();
            }
            let (hits, misses) = lock.counts();
            assert_eq!(hits, lock.read().0.get(), "every write was done, and counted");
            assert_eq!(hits.wrapping_add(misses), spawned * steps, "and so was every read");
        },
        2000,
    );
}

#[test]
fn no_reader_sees_half_of_a_change() {
    for stripes in [1, 2, 4] {
        explore(3, stripes, 3, |first, second| assert_eq!(first, second));
    }
}

#[test]
fn a_panic_with_the_lock_held_gives_it_back() {
    shuttle::check_random(
        || {
            let lock = Arc::new(Striped::new(0, 2));
            for write in [false, true] {
                let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    if write {
                        let _held = lock.write();
                        panic!("with the lock");
                    }
                    let _held = lock.read();
                    panic!("with the lock");
                }));
                assert!(panicked.is_err());
                *lock.write() += 1;
            }
            assert_eq!(*lock.read(), 2);
        },
        10,
    );
}
