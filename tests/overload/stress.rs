//! Many threads, one limit.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use buttress::{
    cluster::Verdict,
    overload::{LimitAlgorithm, Limiter, Outcome, Priority, Queue, Reason, Sample, Terms},
    rng::Rng,
};

const TASKS: u64 = 64;
const ROUNDS: u64 = 400;
const MOST: usize = 6;

/// Never stays where it is.
#[derive(Debug)]
struct Restless(Rng, usize);

impl LimitAlgorithm for Restless {
    fn limit(&self) -> usize {
        self.1
    }

    fn observe(&mut self, sample: Sample, _: Instant) {
        assert!(sample.in_flight <= MOST && sample.outcome != Outcome::Overloaded);
        self.1 = 1 + self.0.below(MOST);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_more_are_admitted_than_the_limit_and_nobody_is_forgotten() {
    let queue = Queue::new(40, Duration::from_secs(3600));
    let limiter = Limiter::new(Restless(Rng::seeded(1), MOST), queue);
    let inside = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..TASKS)
        .map(|seed| {
            let (limiter, inside) = (limiter.clone(), Arc::clone(&inside));
            tokio::spawn(async move {
                let mut rng = Rng::seeded(seed);
                let mut counts = [0_u64; 3];
                for _ in 0..ROUNDS {
                    let terms = Terms::new(Priority::ALL[rng.below(4)]);
                    let patience = Duration::from_micros(rng.below(3000) as u64);
                    // Some lose interest, at any moment.
                    let permit = if rng.below(3) == 0 {
                        tokio::time::timeout(patience, limiter.acquire(terms)).await
                    } else {
                        Ok(limiter.acquire(terms).await)
                    };
                    let Ok(permit) = permit else {
                        counts[0] += 1;
                        continue;
                    };
                    let Ok(mut permit) = permit else {
                        counts[1] += 1;
                        tokio::task::yield_now().await;
                        continue;
                    };
                    counts[2] += 1;
                    assert!(inside.fetch_add(1, SeqCst) < MOST, "too many");
                    if rng.below(2) == 0 {
                        tokio::task::yield_now().await;
                    }
                    inside.fetch_sub(1, SeqCst);
                    if rng.below(4) > 0 {
                        permit.judge(Verdict::Success);
                    }
                }
                counts
            })
        })
        .collect();
    let mut sum = [0; 3];
    for task in tasks {
        let counts = task.await.unwrap();
        sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    let status = limiter.status();
    assert_eq!((status.in_flight, status.waiting), (0, 0));
    let [gave_up, shed, admitted] = sum;
    assert_eq!(gave_up + shed + admitted, TASKS * ROUNDS);
    let counted = status.shed(Reason::Full) + status.shed(Reason::Displaced);
    // Word may reach one who gave up in the same moment.
    assert!(status.admitted >= admitted && counted >= shed);
    assert!(status.admitted + counted <= TASKS * ROUNDS);
    assert!(admitted > TASKS * ROUNDS / 10, "{sum:?}");
}
