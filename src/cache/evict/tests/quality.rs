//! How well policies choose, on traffic with a known best answer.

use super::*;

/// Keys that are asked for once, from here on.
const STRANGERS: u64 = 1 << 40;

fn ratio(simulation: &mut Simulation<Policy>, keys: impl IntoIterator<Item = u64>) -> f64 {
    let (mut hits, mut requests) = (0, 0);
    for key in keys {
        hits += u32::from(simulation.request(key, 1));
        requests += 1;
    }
    f64::from(hits) / f64::from(requests)
}

fn present(simulation: &Simulation<Policy>, mut keys: impl Iterator<Item = u64>) -> usize {
    keys.by_ref().filter(|&key| simulation.contains(key)).count()
}

/// What was popular yesterday does not hold the place of what is popular today.
#[test]
fn uses_age() {
    for (name, eviction) in every() {
        let mut simulation = simulation(&eviction, 1000);
        let hot = |day: u64| day * 1_000_000..day * 1_000_000 + 800;
        for day in 0..3 {
            let mut rng = Rng::seeded(day);
            for n in 0..100_000 {
                let stranger = STRANGERS + day * 1_000_000 + n;
                let popular = hot(day).start + rng.below(800) as u64;
                simulation.request(if rng.below(3) == 0 { stranger } else { popular }, 1);
            }
            let today = present(&simulation, hot(day));
            let yesterday = present(&simulation, hot(day.saturating_sub(1)));
            let simple = matches!(name, "fifo" | "lru" | "custom");
            assert!(today >= if simple { 430 } else { 780 }, "{name}: {today} of today's 800");
            // Without anybody better for their place, some may stay where there is room.
            assert!(day == 0 || yesterday <= 120, "{name}: {yesterday} of yesterday's 800");
        }
    }
}

#[test]
fn a_scan_of_ten_times_the_capacity_leaves_the_hot_set() {
    for eviction in [Eviction::adaptive(), Eviction::w_tiny_lfu(), Eviction::s3_fifo()] {
        let mut simulation = simulation(&eviction, 1000);
        let mut rng = Rng::seeded(5);
        (0..20_000).for_each(|n| {
            let key = if n % 4 == 0 { STRANGERS + n } else { rng.below(500) as u64 };
            simulation.request(key, 1);
        });
        let before = present(&simulation, 0..500);
        (0..10_000).for_each(|n| {
            simulation.request(2 * STRANGERS + n, 1);
        });
        let after = present(&simulation, 0..500);
        assert!(before >= 490 && after >= 450, "{eviction:?}: {before}, then {after}");
    }
}

/// Two thirds of the requests are for new keys, one third for such as were new shortly before: as on the vault of a ledger.
/// Frequencies tell nothing here, and a policy that believes in them finds nothing.
#[test]
fn the_default_is_as_good_as_lru_where_only_recency_counts() {
    let keys = || (16..30_000_u64).flat_map(|n| [2 * n, 2 * n + 1, 2 * (n - 12 - n % 4)]);
    for capacity in [200, 900] {
        let lru = ratio(&mut simulation(&Eviction::lru(), capacity), keys());
        let ours = ratio(&mut simulation(&Eviction::default(), capacity), keys());
        assert!(lru > 0.33 && ours > lru - 0.01, "{capacity}: {ours} and {lru}");
    }
}

/// A loop a little longer than the cache: who keeps what came last finds nothing.
#[test]
fn the_default_keeps_a_part_of_a_loop() {
    let keys = (0..100_000_u64).map(|n| n % 1200);
    let ours = ratio(&mut simulation(&Eviction::default(), 1000), keys.clone());
    let lru = ratio(&mut simulation(&Eviction::lru(), 1000), keys);
    assert!(ours > 0.5 && lru < 0.01, "{ours} and {lru}");
}

/// Nothing tells a loop from a scan before it comes round, and a part of it should be there by then.
#[test]
fn the_default_finds_a_part_of_a_loop_when_it_comes_round_for_the_first_time() {
    for capacity in [100, 1000] {
        let mut simulation = simulation(&Eviction::default(), capacity);
        ratio(&mut simulation, 0..5 * capacity);
        let again = ratio(&mut simulation, 0..5 * capacity);
        assert!(again > 0.12, "{capacity}: {again}");
    }
}

#[test]
fn the_default_beats_lru_on_popularity_that_lasts() {
    let zipf = Zipf::new(20_000, 0.9);
    for capacity in [200, 1_000, 4_000] {
        let keys = || {
            let mut rng = Rng::seeded(9);
            let zipf = &zipf;
            std::iter::repeat_with(move || zipf.key(&mut rng)).take(100_000)
        };
        let ours = ratio(&mut simulation(&Eviction::default(), capacity), keys());
        let lru = ratio(&mut simulation(&Eviction::lru(), capacity), keys());
        assert!(ours > lru + 0.03, "{capacity}: {ours} and {lru}");
    }
}

#[test]
fn the_default_follows_a_change_of_traffic() {
    let mut simulation = simulation(&Eviction::default(), 1000);
    let mut rng = Rng::seeded(4);
    let zipf = Zipf::new(20_000, 0.9);
    for round in 0..2 {
        let start = (round + 1) << 32;
        ratio(&mut simulation, (0..60_000).map(|n| start + n % 1200));
        let looped = ratio(&mut simulation, (0..60_000).map(|n| start + n % 1200));
        assert!(looped > 0.5, "{looped}");
        let mut recent =
            (16..40_000_u64).flat_map(|n| [2 * n, 2 * n + 1, 2 * (n - 12 - n % 4)]).map(|n| start * 2 + n);
        ratio(&mut simulation, recent.by_ref().take(60_000));
        let recent = ratio(&mut simulation, recent);
        assert!(recent > 0.32, "{recent}");
        ratio(&mut simulation, (0..60_000).map(|_| zipf.key(&mut rng)));
        let popular = ratio(&mut simulation, (0..60_000).map(|_| zipf.key(&mut rng)));
        assert!(popular > 0.5, "{popular}");
    }
}

/// One large entry in the place of a hundred small ones is worth it only if it is used as often as all of them.
#[test]
fn gdsf_keeps_many_small_entries_rather_than_few_large_ones() {
    let zipf = Zipf::new(4000, 0.8);
    let weight = |key: u64| if key.is_multiple_of(10) { 100 } else { 1 };
    let hits = |eviction: &Eviction| {
        let mut simulation = simulation(eviction, 4_000);
        let mut rng = Rng::seeded(6);
        (0..60_000)
            .filter(|_| {
                let key = zipf.key(&mut rng);
                simulation.request(key, weight(key))
            })
            .count()
    };
    let (gdsf, lru, adaptive) =
        (hits(&Eviction::gdsf()), hits(&Eviction::lru()), hits(&Eviction::adaptive()));
    assert!(gdsf > lru * 5 / 4, "{gdsf} and {lru}");
    assert!(adaptive > lru, "{adaptive} and {lru}");
}

/// Whoever makes keys that look popular and cannot be beaten holds the cache only for a while.
#[test]
fn who_cannot_be_beaten_is_beaten_now_and_then() {
    let mut simulation = simulation(&Eviction::w_tiny_lfu(), 100);
    // All of these are seen as often as can be counted.
    for _ in 0..50 {
        (0..100).for_each(|key| {
            simulation.request(key, 1);
        });
    }
    // As are these, which come in turns so long that none is in the window when it comes again.
    (0..40_000_u64).for_each(|n| {
        simulation.request(1000 + n % 130, 1);
    });
    assert!(present(&simulation, 0..100) < 10);
}

/// The trial learns in a cache of many shards too, and of weights.
#[test]
fn shards_share_a_trial() {
    let eviction = Eviction::default();
    let mut shards: Vec<_> = (0..4).map(|_| simulation(&eviction, 300)).collect();
    let mut hits = 0;
    for n in 0..200_000_u64 {
        let key = n % 1500;
        hits += u32::from(shards[usize::try_from(key % 4).unwrap()].request(key, 1));
    }
    assert!(hits > 80_000, "{hits} of 200000 for a loop of 1500 in a cache of 1200");
    let Kind::Adaptive(shared) = &eviction.0 else { panic!("the default is adaptive") };
    assert_eq!(shared.capacity(), 1200);
    shards.pop();
    shards[0].resize(500);
    assert_eq!(shared.capacity(), 1100);
    // Nor is the sum of what has no limit a small one.
    shards[0].resize(u64::MAX);
    shards[1].resize(u64::MAX);
    assert!(shared.capacity() > 1 << 48);
    shards.truncate(1);
    assert_eq!(shared.capacity(), 1 << 48);
}
