//! Random histories: whatever happens, the rules hold and nothing is left behind.

use std::{
    io,
    sync::{Arc, Mutex},
    time::SystemTime,
};

use buttress::{
    balance::{Backoff, Budget, Hedge, LeastRequest, RetryAfter},
    balance::{Balance, Cloned, Queue, Retry},
    cluster::{Health, Node},
    rng::Rng,
};
use tokio::time::{sleep, timeout};
use tower::Service;

use crate::support::{Act, Actor, Critic, Scene, ms};

const REQUESTS: u64 = 100_000;
const AT_ONCE: u64 = 2_000;

fn act(rng: &mut Rng) -> Act {
    let after = ms(rng.below(60) as u64);
    let later = if rng.below(2) == 0 {
        RetryAfter::Delay(ms(rng.below(200) as u64))
    } else {
        RetryAfter::Date(SystemTime::UNIX_EPOCH)
    };
    match rng.below(20) {
        0..12 => Act::Status(200, after),
        12..14 => Act::Status(500, after),
        14 => Act::Later(503, later),
        15 => Act::Later(429, later),
        16 => Act::Error(io::ErrorKind::ConnectionRefused),
        17 => Act::Error(io::ErrorKind::ConnectionReset),
        _ => Act::Hang,
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_and_no_rule_is_broken_in_100_000_random_histories() {
    let rng = Arc::new(Mutex::new(Rng::seeded(11)));
    let scene = Scene::planned((0..5).map(|_| {
        let rng = Arc::clone(&rng);
        Arc::new(move |_| act(&mut rng.lock().unwrap())) as Arc<dyn Fn(u64) -> Act + Send + Sync>
    }));
    for node in ["a", "b"] {
        scene.cluster.set_max_in_flight(node, 100).unwrap();
    }
    let balance = Balance::new(scene.cluster.clone(), LeastRequest::new()).classify(Critic);
    let queued = balance.clone().queue(Queue::new(50, ms(100)));
    let budget = Arc::new(Budget::new(0.5, 100).unwrap());
    let even: fn(&u64) -> bool = |request| request.is_multiple_of(2);
    // Each bit of a number is for one rule.
    let services: Vec<_> = (0..32_u32)
        .map(|rules| {
            let has = |bit: u32| rules & (1 << bit) != 0;
            let balance = if has(0) { queued.clone() } else { balance.clone() };
            let mut retry = Retry::new(balance, Cloned::new(even)).budget(Arc::clone(&budget)).tries(3);
            if has(1) {
                retry = retry.try_timeout(ms(40));
            }
            if has(2) {
                retry = retry.timeout(ms(150));
            }
            if has(3) {
                retry = retry.backoff(Backoff::new(ms(10), ms(50)).unwrap());
            }
            if has(4) {
                retry = retry.hedge(Hedge::after(ms(20)));
            }
            retry
        })
        .collect();

    let mut finished = 0;
    for batch in 0..REQUESTS / AT_ONCE {
        let mut calls = Vec::new();
        for request in batch * AT_ONCE..(batch + 1) * AT_ONCE {
            let (which, patience) = {
                let mut rng = rng.lock().unwrap();
                (rng.below(services.len()), ms(rng.below(400) as u64))
            };
            let call = services[which].clone().call(request);
            calls.push(tokio::spawn(timeout(patience, call)));
            if request % 100 == 0 {
                sleep(ms(5)).await;
            }
        }
        // Nodes come, go and fall ill meanwhile.
        let health = if batch % 2 == 0 { Health::Down } else { Health::Up };
        scene.cluster.set_health("c", health).unwrap();
        if batch % 10 == 5 {
            let service = Actor::clone(&scene.cluster.get("e").unwrap().service);
            scene.cluster.remove("e");
            sleep(ms(20)).await;
            scene.cluster.insert(Node::new("e"), service).unwrap();
        }
        for call in calls {
            finished += u64::from(call.await.unwrap().is_ok());
        }
        assert_eq!(scene.in_flight(), 0, "after batch {batch}");
    }
    assert!(finished > REQUESTS / 2, "{finished}");
    let mut tries = 0;
    for request in 0..REQUESTS {
        let visits = scene.log.visits(request);
        tries += visits.len() as u64;
        assert!(visits.len() <= 3, "{request} was tried at {visits:?}");
        for (index, visit) in visits.iter().enumerate() {
            let before = visits[..index].iter().rfind(|before| before.node == visit.node);
            let may_come_back = before.is_none_or(|before| matches!(before.act, Act::Later(..)));
            assert!(may_come_back, "{request} was tried twice: {visits:?}");
        }
    }
    assert!(tries <= REQUESTS * 3 / 2 + 100, "{tries} tries of {REQUESTS} requests are beyond the budget");
    assert!(tries > REQUESTS * 11 / 10, "{tries}");
}
