use proptest::prelude::*;

use super::*;

/// A folder of its own for each test, removed at its end.
pub(super) struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("buttress-store-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("cache")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const NEVER: u64 = u64::MAX;

fn limits(entries: u64, bytes: u64) -> Options {
    Options { limits: Limits { bytes, entries }, page_cache: 1 << 20, sync: false, seed: 1 }
}

fn open(folder: &Folder, options: Options) -> Store {
    Store::open(&folder.file(), options).unwrap().0
}

fn put(hash: u128, len: usize, expires: u64) -> Op {
    Op::Put { hash, bytes: vec![u8::try_from(hash % 251).unwrap(); len], expires }
}

fn keys(store: &Store, of: impl Iterator<Item = u128>) -> Vec<u128> {
    of.filter(|hash| store.get(*hash).unwrap().is_some()).collect()
}

#[test]
fn the_first_in_is_the_first_out_unless_it_was_used() {
    let folder = Folder::new("order");
    let store = open(&folder, limits(4, 1 << 20));
    let used = Used::new();
    let apply = |op| store.apply(vec![op], 0, |hash| used.take(hash)).unwrap();
    for hash in 0..4 {
        apply(put(hash, 10, NEVER));
    }
    used.mark(0);
    apply(put(4, 10, NEVER));
    assert_eq!(keys(&store, 0..5), [0, 2, 3, 4], "1 was the oldest that nobody used");
    for hash in 5..8 {
        apply(put(hash, 10, NEVER));
    }
    assert_eq!(keys(&store, 0..8), [0, 5, 6, 7], "0 got one more turn");
    apply(put(8, 10, NEVER));
    assert_eq!(keys(&store, 0..9), [5, 6, 7, 8], "and only one");
}

#[test]
fn capacity_is_kept_across_restarts_and_when_it_shrinks() {
    let folder = Folder::new("capacity");
    let store = open(&folder, limits(100, 1 << 20));
    store.apply((0..150).map(|hash| put(hash, 10, NEVER)).collect(), 0, |_| false).unwrap();
    assert_eq!(store.totals().entries, 100);
    let before = store.totals();
    drop(store);
    let store = open(&folder, limits(100, 1 << 20));
    assert_eq!(store.totals(), before);
    store.apply(vec![put(1000, 10, NEVER)], 0, |_| false).unwrap();
    assert_eq!(store.totals().entries, 100);
    drop(store);
    let store = open(&folder, limits(7, 1 << 20));
    assert_eq!(store.totals().entries, 7);
    drop(store);
    let store = open(&folder, limits(7, 2 * charge(10)));
    assert_eq!(store.totals(), Totals { entries: 2, bytes: 2 * charge(10), ..store.totals() });
}

#[test]
fn a_capacity_of_nothing_keeps_nothing() {
    let folder = Folder::new("nothing");
    let store = open(&folder, limits(0, 1 << 20));
    store.apply(vec![put(1, 10, NEVER)], 0, |_| true).unwrap();
    assert_eq!((store.get(1).unwrap(), store.totals().entries), (None, 0));
}

#[test]
fn expired_entries_leave_with_the_writes() {
    let folder = Folder::new("expiry");
    let store = open(&folder, limits(1000, 1 << 20));
    let ops = (0..100).map(|hash| put(hash, 10, if hash % 2 == 0 { 50 } else { NEVER })).collect();
    store.apply(ops, 0, |_| false).unwrap();
    let mut expired = 0;
    for round in 0..20 {
        expired += store.apply(vec![put(1000 + round, 10, NEVER)], 50, |_| true).unwrap().expired;
    }
    assert_eq!((expired, store.totals().entries), (50, 70));
}

/// Else what expired long ago would be good again when the clock comes to that time for the second time.
#[test]
fn a_clock_that_is_set_back_costs_the_content() {
    let folder = Folder::new("clock");
    let day = 24 * 3600 * 1000;
    let store = open(&folder, limits(1000, 1 << 20));
    store.apply(vec![put(1, 10, NEVER)], day, |_| false).unwrap();
    store.apply(vec![put(2, 10, NEVER)], day - SKEW, |_| false).unwrap();
    assert_eq!(keys(&store, 0..10), [1, 2], "clocks are mended a little all the time");
    drop(store);
    let store = open(&folder, limits(1000, 1 << 20));
    store.apply(vec![put(3, 10, NEVER)], day - SKEW - 1, |_| false).unwrap();
    assert_eq!((keys(&store, 0..10), store.totals().entries), (vec![3], 1));
    store.apply(vec![put(4, 10, NEVER)], day - SKEW, |_| false).unwrap();
    assert_eq!(keys(&store, 0..10), [3, 4]);
}

#[test]
fn clear_leaves_nothing_and_goes_on() {
    let folder = Folder::new("clear");
    let store = open(&folder, limits(1000, 1 << 20));
    store.apply((0..50).map(|hash| put(hash, 10, NEVER)).collect(), 0, |_| false).unwrap();
    store.apply(vec![Op::Clear, put(7, 3, NEVER)], 0, |_| false).unwrap();
    assert_eq!((keys(&store, 0..50), store.totals().entries), (vec![7], 1));
}

#[test]
fn the_file_stays_bounded_however_much_goes_through_it() {
    let folder = Folder::new("churn");
    let bytes = 4 << 20;
    let mut store = open(&folder, limits(u64::MAX, bytes));
    let (mut largest, mut written) = (0, 0_u64);
    for round in 0..300_u128 {
        let len = |hash: u128| 100 + usize::try_from(hash * 7919 % 9000).unwrap();
        let ops: Vec<_> = (round * 50..round * 50 + 50).map(|hash| put(hash, len(hash), NEVER)).collect();
        written += (round * 50..round * 50 + 50).map(|hash| len(hash) as u64).sum::<u64>();
        store.apply(ops, 0, |_| false).unwrap();
        assert!(store.totals().bytes <= bytes);
        largest = largest.max(store.file_len());
        if store.is_bloated() {
            store.compact().unwrap();
        }
    }
    println!(
        "{written} bytes through a capacity of {bytes}: the file was at most {largest}, is {}",
        store.file_len()
    );
    assert!(largest <= bytes * 3 + SLACK);
}

/// Batches much larger than the capacity: what does not fit must not be in the file at the same time.
#[test]
fn the_file_stays_bounded_when_batches_are_larger_than_the_capacity() {
    let folder = Folder::new("flood");
    let bytes = 1 << 20;
    let store = open(&folder, limits(u64::MAX, bytes));
    for round in 0..4 {
        let ops = (0..64).map(|at| put(round * 100 + at, 500_000, NEVER)).collect();
        store.apply(ops, 0, |_| false).unwrap();
        assert!(store.totals().bytes <= bytes);
        assert!(!store.is_bloated(), "{} bytes for a capacity of {bytes}", store.file_len());
    }
}

/// The size of a page is read from the file. It must not decide how much memory is taken: that would end the process.
#[test]
fn a_read_beyond_the_end_takes_no_memory() {
    let folder = Folder::new("beyond");
    fs::write(folder.file(), [7; 5000]).unwrap();
    let backend = Backend::open(&folder.file(), true).unwrap();
    assert_eq!(backend.read(4000, 1000).unwrap(), [7; 1000]);
    for (offset, len) in [(4000, 1001), (0, 1 << 46), (1 << 40, 1 << 30), (u64::MAX, usize::MAX)] {
        assert_eq!(backend.read(offset, len).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}

#[test]
fn garbage_is_moved_aside() {
    for (name, garbage) in [
        ("short", b"x".to_vec()),
        ("long", vec![7; 100_000]),
        ("magic", b"redb\x1A\x0A\xA9\x0D\x0A rest".to_vec()),
    ] {
        let folder = Folder::new(name);
        fs::write(folder.file(), &garbage).unwrap();
        let (store, recovery) = Store::open(&folder.file(), limits(10, 1 << 20)).unwrap();
        let recovery = recovery.unwrap();
        assert_eq!(fs::read(&recovery.moved_to).unwrap(), garbage);
        store.apply(vec![put(1, 10, NEVER)], 0, |_| false).unwrap();
        assert!(store.get(1).unwrap().is_some());
    }
}

/// Damage anywhere in the file: what is read is what was written under this hash, or it is an error. (The envelope inside
/// has a checksum of its own, so that other bytes are no value either.)
#[test]
fn damage_in_the_file_is_an_error_or_a_miss_and_never_a_panic() {
    let folder = Folder::new("damage");
    let store = open(&folder, limits(1000, 1 << 20));
    store.apply((0..200).map(|hash| put(hash, 500, NEVER)).collect(), 0, |_| false).unwrap();
    drop(store);
    let whole = fs::read(folder.file()).unwrap();
    let mut rng = crate::rng::Rng::seeded(1);
    let (mut misses, mut faults, mut aside) = (0, 0, 0);
    for _ in 0..40 {
        let mut bytes = whole.clone();
        for _ in 0..20 {
            let at = rng.below(bytes.len().min(200_000));
            bytes[at] ^= 1 << rng.below(8);
        }
        if rng.below(4) == 0 {
            bytes.truncate(rng.below(bytes.len()));
        }
        fs::write(folder.file(), &bytes).unwrap();
        let (store, recovery) = Store::open(&folder.file(), limits(1000, 1 << 20)).unwrap();
        aside += usize::from(recovery.is_some());
        for hash in 0..200 {
            match store.get(hash) {
                Ok(Some(_)) => {}
                Ok(None) => misses += 1,
                Err(_) => faults += 1,
            }
        }
        faults += usize::from(store.apply(vec![put(7, 10, NEVER)], 0, |_| false).is_err());
        let _ = guarded(|| {
            drop(store);
            Ok(())
        });
    }
    println!("{aside} of 40 files moved aside, {misses} misses, {faults} faults");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever is done, in whatever batches, the totals are those of the entries and the limits hold.
    #[test]
    fn totals_are_those_of_the_entries(
        batches in prop::collection::vec(prop::collection::vec((0_u8..12, 0_u128..20, 0_usize..3000), 1..12), 1..12),
        entries in 1_u64..15,
    ) {
        let folder = Folder::new("model");
        let store = open(&folder, limits(entries, 20_000));
        for batch in batches {
            let ops = batch.into_iter().map(|(kind, hash, len)| match kind {
                0 => Op::Clear,
                1..4 => Op::Remove { hash },
                _ => put(hash, len, NEVER),
            });
            store.apply(ops.collect(), 0, |hash| hash % 3 == 0).unwrap();
            let held: Vec<_> = (0..20).filter_map(|hash| store.get(hash).unwrap().map(|bytes| (hash, bytes))).collect();
            let totals = store.totals();
            prop_assert_eq!(totals.entries, held.len() as u64);
            prop_assert_eq!(totals.bytes, held.iter().map(|(_, bytes)| charge(bytes.len())).sum::<u64>());
            prop_assert!(totals.entries <= entries && totals.bytes <= 20_000);
            prop_assert!(held.iter().all(|(hash, bytes)| bytes.iter().all(|byte| u128::from(*byte) == hash % 251)));
        }
    }
}
