//! The maintenance alarm of caches under a model checker: no interleaving of writers and the sleeping task loses a deadline.

#[path = "../src/cache/expire/alarm.rs"]
#[allow(dead_code, unreachable_pub, unnameable_types)]
mod alarm;

/// The checker's types in place of `std`'s and tokio's.
mod sync {
    use std::{
        future::poll_fn,
        task::{Poll, Waker},
    };

    pub(crate) use shuttle::sync::{Mutex, atomic};

    /// One permit, one task that waits.
    #[derive(Debug, Default)]
    pub(crate) struct Notify(Mutex<(bool, Option<Waker>)>);

    impl Notify {
        pub(crate) fn notify_one(&self) {
            let mut state = self.0.lock().unwrap();
            state.0 = true;
            let waker = state.1.take();
            drop(state);
            waker.into_iter().for_each(Waker::wake);
        }

        pub(crate) async fn notified(&self) {
            poll_fn(|cx| {
                let mut state = self.0.lock().unwrap();
                if std::mem::take(&mut state.0) {
                    return Poll::Ready(());
                }
                state.1 = Some(cx.waker().clone());
                Poll::Pending
            })
            .await;
        }
    }
}

use std::sync::Arc;

use alarm::Alarm;
use shuttle::{future::block_on, sync::Mutex, thread};

const RUNS: usize = 3_000;
const WRITERS: u64 = 3;

/// Time does not pass here: the task may only sleep while it plans to wake at the earliest deadline that there is.
#[test]
fn no_deadline_is_slept_through() {
    shuttle::check_random(
        || {
            let alarm = Arc::new(Alarm::default());
            let timers: Arc<Vec<Mutex<Vec<u64>>>> = Arc::new((0..2).map(|_| Mutex::default()).collect());
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    let (alarm, timers) = (Arc::clone(&alarm), Arc::clone(&timers));
                    thread::spawn(move || {
                        // Each is earlier than the last, in one shard and then in the other.
                        for (turn, deadline) in [20 - writer, 10 - writer].into_iter().enumerate() {
                            timers[(turn + usize::from(writer == 1)) % 2].lock().unwrap().push(deadline);
                            alarm.note(deadline);
                        }
                    })
                })
                .collect();
            // Only the earliest of all lets the task go: if it is told of anything less, it waits for ever, which
            // the checker reports as a deadlock.
            let earliest = 10 - (WRITERS - 1);
            let task = thread::spawn(move || {
                loop {
                    alarm.look();
                    let found =
                        timers.iter().filter_map(|shard| shard.lock().unwrap().iter().min().copied()).min();
                    alarm.plan(found.unwrap_or(u64::MAX));
                    if found == Some(earliest) {
                        break;
                    }
                    block_on(alarm.rung());
                }
            });
            for thread in writers.into_iter().chain([task]) {
                thread.join().unwrap();
            }
        },
        RUNS,
    );
}
