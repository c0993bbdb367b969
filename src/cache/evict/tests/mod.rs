use super::*;
use crate::rng::Rng;

mod histories;
mod models;
mod quality;

fn every() -> [(&'static str, Eviction); 9] {
    [
        ("adaptive", Eviction::adaptive()),
        ("w_tiny_lfu", Eviction::w_tiny_lfu()),
        ("fifo", Eviction::fifo()),
        ("lru", Eviction::lru()),
        ("lfu", Eviction::lfu()),
        ("sieve", Eviction::sieve()),
        ("s3_fifo", Eviction::s3_fifo()),
        ("gdsf", Eviction::gdsf()),
        ("custom", Eviction::custom(|_| Box::new(Lru::new()))),
    ]
}

fn simulation(eviction: &Eviction, capacity: u64) -> Simulation<Policy> {
    Simulation::new(eviction.policy(capacity), capacity)
}

/// Requests for a key by its rank: the first is asked for most.
struct Zipf(Vec<f64>);

impl Zipf {
    fn new(keys: u32, exponent: f64) -> Self {
        let mut sum = 0.0;
        Self(
            (1..=keys)
                .map(|rank| {
                    sum += f64::from(rank).powf(-exponent);
                    sum
                })
                .collect(),
        )
    }

    fn key(&self, rng: &mut Rng) -> u64 {
        let at = rng.unit() * self.0[self.0.len() - 1];
        self.0.partition_point(|&sum| sum < at) as u64
    }
}

#[test]
fn a_policy_of_no_capacity_or_of_all_allocates_little() {
    for capacity in [0, 1, u64::MAX] {
        for (name, eviction) in every() {
            let mut simulation = simulation(&eviction, capacity);
            (0..100).for_each(|key| {
                simulation.request(key, 1);
            });
            assert_eq!(simulation.len() as u64, capacity.min(100), "{name}");
        }
    }
}

#[test]
fn no_eviction_refuses_newcomers_but_shrinks() {
    let mut simulation = simulation(&Eviction::none(), 3);
    (0..5).for_each(|key| assert!(!simulation.request(key, 1)));
    assert!(simulation.contains(2) && !simulation.contains(3), "who came first stays");
    assert!(simulation.remove(1) && !simulation.request(7, 1) && simulation.contains(7));
    simulation.resize(2);
    assert_eq!(simulation.evicted(), [0]);
    simulation.reweigh(7, 2);
    assert_eq!((simulation.evicted(), simulation.len()), (&[2][..], 1));
}

#[test]
fn a_clone_of_a_choice_has_trials_of_its_own() {
    let (Kind::Adaptive(one), Kind::Adaptive(other)) = (Eviction::default().0, Eviction::default().clone().0)
    else {
        panic!("the default is adaptive")
    };
    assert!(!Arc::ptr_eq(&one, &other));
    assert!(!Arc::ptr_eq(&one, &one.anew()));
    assert_eq!(format!("{:?}", Eviction::custom(|_| Box::new(Fifo::new()))), "Eviction(Custom)");
}

/// However many entries were used, an eviction spares a bounded number of them.
#[test]
fn no_eviction_takes_long() {
    const ENTRIES: Slot = 10_000;
    for (name, eviction) in every() {
        let mut policy = eviction.policy(ENTRIES.into());
        (0..ENTRIES).for_each(|slot| policy.insert(slot, u64::from(slot) << 40, 1));
        for _ in 0..9 {
            (0..ENTRIES).for_each(|slot| policy.touch(slot, u64::from(slot) << 40));
        }
        let Victim::Slot(_) = policy.evict(1 << 63, 1) else { panic!("{name} gives nobody up") };
        let marked = |hits: &dyn Fn(Slot) -> u8| (0..ENTRIES).filter(|&slot| hits(slot) > 0).count();
        let spared = match &policy {
            Policy::Adaptive(adaptive) => marked(&|slot| adaptive.hits(slot)),
            Policy::Lfu(lfu) => marked(&|slot| lfu.hits.hits(slot)),
            Policy::Gdsf(gdsf) => marked(&|slot| gdsf.hits.hits(slot)),
            Policy::Sieve(sieve) => marked(&|slot| sieve.used.hits(slot)),
            Policy::S3Fifo(s3) => marked(&|slot| s3.marks.hits(slot)),
            _ => continue,
        };
        assert!(spared >= ENTRIES as usize - PATIENCE - 1, "{name}: {spared}");
    }
}

#[test]
fn what_a_ghost_was_told_it_knows_once_and_through_growth() {
    let mut rng = Rng::seeded(1);
    let mut ghost = Ghost::new(10_000);
    let early: Vec<u32> = (0..100).map(|_| short(rng.next_u64())).collect();
    for &hash in &early {
        ghost.put(hash);
    }
    ghost.grow(10_000);
    let known = |ghost: &mut Ghost, hashes: &[u32]| hashes.iter().filter(|&&hash| ghost.take(hash)).count();
    assert!(known(&mut ghost, &early) >= 98);
    assert!(known(&mut ghost, &early) <= 2);

    let later: Vec<u32> = (0..30_000).map(|_| short(rng.next_u64())).collect();
    for &hash in &later {
        ghost.put(hash);
    }
    let strangers: Vec<u32> = (0..10_000).map(|_| short(rng.next_u64())).collect();
    assert!(known(&mut ghost, &strangers) < 10, "some 2.4 are expected");
    assert!(known(&mut ghost, &later[25_000..]) > 4_900, "the latest half of what fits");
    assert!(known(&mut ghost, &later[..15_000]) < 150, "long gone");
}

#[test]
fn what_was_seen_is_counted_through_growth_and_forgotten() {
    let mut rng = Rng::seeded(2);
    let mut hash = move || short(rng.next_u64());
    let mut recall = Recall::new(4096);
    let often = hash();
    (0..9).for_each(|_| recall.see(often, 1));
    recall.leave(often);
    recall.grow(4096);
    assert_eq!(recall.seen(often), 9);
    assert!(recall.back(often) && !recall.back(often));
    let hashes: Vec<u32> = (0..4096).map(|_| hash()).collect();
    for &hash in &hashes {
        recall.see(hash, 3);
    }
    assert!(hashes.iter().all(|&hash| recall.seen(hash) >= 3), "never too low");
    let wrong = hashes.iter().filter(|&&hash| recall.seen(hash) != 3).count();
    assert!(wrong < 400, "{wrong} of 4096 share all their counters with others");

    // Ten times as many sightings as entries halve all, wherever they were; then half as many are enough.
    for halvings in 1..=4 {
        (0..4096 * if halvings == 1 { 7 } else { 6 }).for_each(|_| recall.see(hash(), 1));
        let left = recall.seen(often);
        assert!(left <= 9 >> halvings || left < 6, "{left} after {halvings}");
    }
    recall.see(often, u8::MAX);
    assert_eq!(recall.seen(often), 15);
}

#[test]
fn marks_keep_their_tag_while_they_count() {
    let mut marks = Marks::<3>::new();
    marks.set(3, 0b1_0101, 2);
    (0..20).for_each(|_| marks.touch(3));
    assert_eq!((marks.tag(3), marks.hits(3)), (0b1_0101, 7));
    marks.touch(99);
    assert_eq!((marks.tag(99), marks.hits(99)), (0, 0));
    let mut whole = Marks::<8>::new();
    whole.set(0, 7, 255);
    whole.touch(0);
    assert_eq!((whole.tag(0), whole.hits(0)), (0, 255));
}

#[test]
fn queues_hold_what_was_pushed_in_order() {
    use std::collections::VecDeque;

    let mut rng = Rng::seeded(3);
    let (mut lists, mut model) = (Lists::<3>::new(), [const { VecDeque::<Slot>::new() }; 3]);
    for _ in 0..20_000 {
        let (slot, queue) = (u32::try_from(rng.below(40)).unwrap(), rng.below(3));
        for queue in &mut model {
            queue.retain(|&other| other != slot);
        }
        if rng.below(3) == 0 {
            lists.unlink(slot);
        } else {
            lists.push(queue, slot);
            model[queue].push_back(slot);
        }
        for (queue, model) in model.iter().enumerate() {
            let order = std::iter::successors(lists.oldest(queue), |&slot| lists.newer(slot));
            assert!(order.eq(model.iter().copied()));
            assert_eq!(lists.newest(queue), model.back().copied());
        }
    }
}
