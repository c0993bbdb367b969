//! The stack over tiers that do what they are told, in paused time.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use buttress::cache::{
    MemoryCache,
    load::LoadError,
    tier::{Notice, Tier, TierStats, Tiered},
};
use tokio::{
    task::yield_now,
    time::{advance, sleep},
};

use crate::shelf::{Key, Shelf};

const MINUTE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

fn stack(local: &Shelf, shared: &Shelf) -> Tiered<Key, u64> {
    let memory = MemoryCache::builder(1000).clock(buttress::time::TokioClock).build();
    Tiered::builder(memory).tier(local.clone()).tier(shared.clone()).build()
}

fn shelves() -> (Shelf, Shelf) {
    (Shelf::new(false), Shelf::new(true))
}

fn of(stack: &Tiered<Key, u64>, name: &str) -> TierStats {
    stack.stats().into_iter().find(|stats| stats.name == name).unwrap()
}

/// Lets tasks in the background do what they can.
async fn settle() {
    for _ in 0..50 {
        yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_found_below_is_copied_up_and_never_lives_longer_than_below() {
    let (local, shared) = shelves();
    let stack = stack(&local, &shared);
    shared.put(&1, &11, Some(10 * SECOND)).await.unwrap();
    advance(4 * SECOND).await;
    assert_eq!(stack.get(&1).await, Some(11));
    assert_eq!(local.peek(1), Some((11, Some(6 * SECOND))));
    advance(Duration::from_millis(5999)).await;
    assert_eq!(stack.get(&1).await, Some(11), "from memory");
    assert_eq!((local.gets(), shared.gets()), (1, 1));
    advance(Duration::from_millis(2)).await;
    assert_eq!(stack.get(&1).await, None);
}

#[tokio::test(start_paused = true)]
async fn the_time_that_an_answer_takes_counts() {
    let local = Shelf::new(false);
    let shared = Shelf::new(true).slow(2 * SECOND);
    let stack = stack(&local, &shared);
    shared.put(&1, &11, Some(20 * SECOND)).await.unwrap();
    assert_eq!(stack.get(&1).await, Some(11));
    // It has 20 s, of which 2 pass until the put returns, 2 on the way there and 2 on the way back.
    assert_eq!(local.peek(1), Some((11, Some(12 * SECOND))), "counted from before it was asked, to be sure");
}

#[tokio::test(start_paused = true)]
async fn what_is_local_is_kept_no_longer_than_the_staleness_allows() {
    let (local, shared) = shelves();
    let memory = MemoryCache::builder(1000).clock(buttress::time::TokioClock).build();
    let stack = Tiered::builder(memory)
        .tier(local.clone())
        .tier(shared.clone())
        .ttl(60 * MINUTE)
        .max_staleness(MINUTE)
        .build();
    stack.insert(1, 11).await.unwrap();
    assert_eq!(stack.get_with(&2, || async { 22 }).await, 22);
    for key in [1, 2] {
        assert_eq!(local.peek(key).unwrap().1, Some(MINUTE));
        assert_eq!(shared.peek(key).unwrap().1, Some(60 * MINUTE));
    }
    // Another node changes both, and every message is lost.
    shared.put(&1, &111, None).await.unwrap();
    shared.put(&2, &222, None).await.unwrap();
    advance(59 * SECOND).await;
    assert_eq!((stack.get(&1).await, stack.get(&2).await), (Some(11), Some(22)), "may be stale");
    advance(SECOND).await;
    assert_eq!((stack.get(&1).await, stack.get(&2).await), (Some(111), Some(222)), "and no longer");
    assert_eq!(local.peek(1).unwrap().1, Some(MINUTE), "though below it lives for ever");
}

#[tokio::test(start_paused = true)]
async fn a_failing_tier_is_a_miss_that_is_counted() {
    let (local, shared) = shelves();
    let stack = stack(&local, &shared);
    shared.put(&1, &11, None).await.unwrap();
    local.fail(true);
    assert_eq!(stack.get(&1).await, Some(11));
    shared.fail(true);
    assert_eq!(stack.get_with(&2, || async { 22 }).await, 22);
    assert_eq!(stack.get(&2).await, Some(22), "from memory");
    assert_eq!((of(&stack, "local").failures, of(&stack, "shared").failures), (2, 1));
    assert_eq!((of(&stack, "shared").hits, of(&stack, "loader").hits), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn however_many_ask_each_tier_is_asked_once_and_one_loads() {
    let (local, shared) = (Shelf::new(false).slow(SECOND), Shelf::new(true).slow(SECOND));
    let stack = stack(&local, &shared);
    let loads = Arc::new(AtomicU32::new(0));
    let callers: Vec<_> = (0..100)
        .map(|caller| {
            let (stack, loads) = (stack.clone(), Arc::clone(&loads));
            tokio::spawn(async move {
                // Some come while it is already under way.
                sleep(Duration::from_millis(caller * 40)).await;
                stack
                    .get_with(&1, || async move {
                        sleep(SECOND).await;
                        u64::from(loads.fetch_add(1, SeqCst) + 11)
                    })
                    .await
            })
        })
        .collect();
    for caller in callers {
        assert_eq!(caller.await.unwrap(), 11);
    }
    assert_eq!((local.gets(), shared.gets(), loads.load(SeqCst)), (1, 1, 1));
    assert_eq!((local.peek(1).unwrap().0, shared.peek(1)), (11, Some((11, None))));
}

#[tokio::test(start_paused = true)]
async fn a_load_goes_on_when_the_caller_who_began_it_leaves() {
    let (local, shared) = shelves();
    let stack = stack(&local, &shared);
    let load = |value: u64| {
        let stack = stack.clone();
        async move {
            stack
                .get_with(&1, || async move {
                    sleep(SECOND).await;
                    value
                })
                .await
        }
    };
    let leader = tokio::spawn(load(11));
    settle().await;
    let waiter = tokio::spawn(load(22));
    settle().await;
    leader.abort();
    assert_eq!(waiter.await.unwrap(), 11, "it was handed over, not begun anew");
}

#[tokio::test(start_paused = true)]
async fn errors_are_shared_and_not_kept() {
    let (local, shared) = shelves();
    let stack = stack(&local, &shared);
    let fails = || {
        stack.try_get_with(&1, || async {
            sleep(SECOND).await;
            Err::<u64, _>("no")
        })
    };
    let (a, b) = tokio::join!(fails(), fails());
    for failed in [a, b] {
        assert!(matches!(failed, Err(LoadError::Failed(why)) if *why == "no"));
    }
    assert_eq!(of(&stack, "loader").failures, 1);
    assert_eq!(stack.try_get_with(&1, || async { Ok::<_, Infallible>(5) }).await.unwrap(), 5);
}

/// A load is under way when its key is changed: what it brings is kept nowhere, and who comes later does not join it.
#[tokio::test(start_paused = true)]
async fn a_load_that_a_change_overtakes_is_kept_in_no_tier() {
    for by_insert in [false, true] {
        let (local, shared) = shelves();
        let stack = stack(&local, &shared);
        let slow = stack.clone();
        let old = tokio::spawn(async move {
            slow.get_with(&1, || async {
                sleep(SECOND).await;
                11
            })
            .await
        });
        settle().await;
        if by_insert {
            stack.insert(1, 12).await.unwrap();
        } else {
            stack.remove(&1).await.unwrap();
        }
        let new = stack.get_with(&1, || async { 12 }).await;
        assert_eq!((new, old.await.unwrap()), (12, 11));
        settle().await;
        assert_eq!(stack.get(&1).await, Some(12));
        assert_eq!((local.peek(1).unwrap().0, shared.peek(1).unwrap().0), (12, 12));
    }
}

/// The answer of a lower tier is on its way when the key is removed there.
#[tokio::test(start_paused = true)]
async fn an_answer_that_a_removal_overtakes_is_not_copied_up() {
    let (local, shared) = (Shelf::new(false), Shelf::new(true));
    shared.put(&1, &11, None).await.unwrap();
    let stack = stack(&local, &shared);
    shared.clone().slow(SECOND);
    let reader = tokio::spawn({
        let stack = stack.clone();
        async move { stack.get(&1).await }
    });
    sleep(SECOND + SECOND / 2).await;
    shared.clone().slow(Duration::ZERO);
    stack.remove(&1).await.unwrap();
    assert_eq!(reader.await.unwrap(), Some(11), "it asked before the removal");
    assert_eq!((stack.get(&1).await, local.peek(1), shared.peek(1)), (None, None, None));
}

#[tokio::test(start_paused = true)]
async fn a_change_is_finished_though_its_caller_leaves() {
    let (local, shared) = shelves();
    let stack = stack(&local, &shared);
    stack.insert(1, 11).await.unwrap();
    shared.clone().slow(SECOND);
    let removal = tokio::spawn({
        let stack = stack.clone();
        async move { stack.remove(&1).await }
    });
    settle().await;
    removal.abort();
    sleep(5 * SECOND).await;
    assert_eq!((stack.memory().get(&1), local.peek(1), shared.peek(1)), (None, None, None));
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_missed_a_change_is_not_believed_until_it_has_made_it() {
    let (local, shared) = shelves();
    let stack = stack(&local, &shared);
    stack.insert(1, 11).await.unwrap();
    shared.fail(true);
    let incomplete = stack.remove(&1).await.unwrap_err();
    assert_eq!(incomplete.failures[0].0, "shared");
    assert!(incomplete.to_string().contains("shared: no answer within 1s"), "{incomplete}");
    assert_eq!(shared.peek(1), Some((11, None)), "it knows no better");
    assert_eq!((stack.get(&1).await, of(&stack, "shared").owed), (None, 1));
    shared.fail(false);
    assert_eq!(stack.get(&1).await, None, "it is told before it is asked");
    assert_eq!((shared.peek(1), of(&stack, "shared").owed), (None, 0));

    stack.insert(2, 21).await.unwrap();
    shared.fail(true);
    stack.insert(2, 22).await.unwrap_err();
    shared.fail(false);
    // Any answer shows that it is back; then it is told what others may read.
    stack.get(&3).await;
    settle().await;
    assert_eq!((shared.peek(2), of(&stack, "shared").owed), (None, 0));
    assert_eq!(stack.get(&2).await, Some(22));
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_missed_too_many_changes_is_cleared() {
    let (local, shared) = shelves();
    let stack = stack(&local, &shared);
    stack.insert(100_000, 1).await.unwrap();
    shared.fail(true);
    for key in 0..5000 {
        stack.insert(key, 1).await.unwrap_err();
    }
    assert!(of(&stack, "shared").owed < 5000, "what is remembered is bounded");
    shared.fail(false);
    stack.memory().clear();
    local.clear().await.unwrap();
    assert_eq!(stack.get(&100_000).await, None);
    assert_eq!(of(&stack, "shared").owed, 0);
}

#[tokio::test(start_paused = true)]
async fn clear_reaches_every_tier() {
    let (local, shared) = shelves();
    let stack = stack(&local, &shared);
    stack.insert(1, 11).await.unwrap();
    stack.clear().await.unwrap();
    assert_eq!((stack.get(&1).await, local.peek(1), shared.peek(1)), (None, None, None));
    shared.fail(true);
    stack.insert(2, 22).await.unwrap_err();
    stack.clear().await.unwrap_err();
    shared.fail(false);
    assert_eq!(stack.get(&2).await, None);
}

#[tokio::test(start_paused = true)]
async fn what_another_node_tells_is_forgotten_in_what_is_local() {
    let (local, shared) = shelves();
    let stack = stack(&local, &shared);
    settle().await;
    shared.tell(Notice::Resumed);
    settle().await;
    for key in 1..=3 {
        stack.insert(key, u64::from(key)).await.unwrap();
    }
    shared.tell(Notice::Changed(1));
    settle().await;
    assert_eq!((stack.memory().get(&1), local.peek(1)), (None, None));
    assert!(stack.memory().get(&2).is_some() && local.peek(2).is_some() && shared.peek(1).is_some());
    shared.tell(Notice::Cleared);
    settle().await;
    assert!(stack.memory().is_empty() && local.peek(2).is_none());
}

#[tokio::test(start_paused = true)]
async fn when_messages_may_be_lost_all_that_is_local_is_dropped() {
    let (local, shared) = shelves();
    local.put(&7, &77, None).await.unwrap();
    let stack = stack(&local, &shared);
    stack.memory().insert(8, 88);
    settle().await;
    shared.tell(Notice::Resumed);
    settle().await;
    assert_eq!(
        (stack.memory().get(&8), local.peek(7)),
        (None, Some((77, None))),
        "the first time the disk stays warm"
    );
    stack.insert(1, 11).await.unwrap();
    shared.tell(Notice::Resumed);
    settle().await;
    assert!(stack.memory().is_empty() && local.peek(1).is_none() && local.peek(7).is_none());
    // More than the channel holds, before anybody could listen.
    stack.insert(1, 11).await.unwrap();
    for _ in 0..100 {
        shared.tell(Notice::Changed(999));
    }
    settle().await;
    assert!(stack.memory().is_empty() && local.peek(1).is_none(), "it cannot know what it missed");
}

#[tokio::test(start_paused = true)]
async fn messages_that_are_lost_at_the_very_start_are_lost_too() {
    let (local, shared) = shelves();
    let stack = stack(&local, &shared);
    stack.insert(7, 77).await.unwrap();
    // Its first steps take long, and there is more than the channel holds by then.
    for _ in 0..100 {
        shared.tell(Notice::Changed(999));
    }
    settle().await;
    assert!(stack.memory().is_empty() && local.peek(7).is_none(), "it may have been among the lost");
}

/// A notice comes while the old value is on its way up.
#[tokio::test(start_paused = true)]
async fn an_answer_that_a_notice_overtakes_is_not_kept() {
    let (local, shared) = shelves();
    shared.put(&1, &11, None).await.unwrap();
    let stack = stack(&local, &shared);
    shared.clone().slow(SECOND);
    let reader = tokio::spawn({
        let stack = stack.clone();
        async move { stack.get(&1).await }
    });
    sleep(SECOND + SECOND / 2).await;
    shared.clone().slow(Duration::ZERO);
    // Another node.
    shared.put(&1, &12, None).await.unwrap();
    shared.tell(Notice::Changed(1));
    settle().await;
    assert_eq!(reader.await.unwrap(), Some(11));
    assert_eq!(stack.get(&1).await, Some(12));
    assert_eq!(local.peek(1).unwrap().0, 12);
}

/// This node's change is half-way up when another node changes the key again, and says so.
#[tokio::test(start_paused = true)]
async fn a_change_that_another_node_overtakes_is_not_kept() {
    for cleared in [false, true] {
        let (local, shared) = shelves();
        let stack = stack(&local, &shared);
        settle().await;
        shared.tell(Notice::Resumed);
        settle().await;
        local.clone().slow(SECOND);
        let change = tokio::spawn({
            let stack = stack.clone();
            async move { stack.insert(1, 11).await }
        });
        settle().await;
        assert_eq!(shared.peek(1), Some((11, None)), "it is there, and not yet above");
        shared.put(&1, &12, None).await.unwrap();
        shared.tell(if cleared { Notice::Cleared } else { Notice::Changed(1) });
        change.await.unwrap().unwrap();
        sleep(10 * SECOND).await;
        assert_eq!(stack.get(&1).await, Some(12));
    }
}

#[tokio::test(start_paused = true)]
async fn many_keys_are_asked_for_tier_by_tier() {
    let (local, shared) = shelves();
    let stack = stack(&local, &shared);
    stack.memory().insert(1, 11);
    local.put(&2, &22, None).await.unwrap();
    shared.put(&3, &33, Some(MINUTE)).await.unwrap();
    assert_eq!(stack.get_many(&[1, 2, 3, 4, 3]).await, [Some(11), Some(22), Some(33), None, Some(33)]);
    assert_eq!((stack.memory().get(&2), stack.memory().get(&3)), (Some(22), Some(33)));
    assert_eq!(local.peek(3), Some((33, Some(MINUTE))));
    shared.fail(true);
    assert_eq!(stack.get_many(&[3, 4]).await, [Some(33), None]);
}

#[tokio::test(start_paused = true)]
async fn nothing_follows_when_the_last_handle_is_gone() {
    let (local, shared) = shelves();
    let stack = stack(&local, &shared);
    settle().await;
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 1);
    drop(stack);
    settle().await;
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
}
