//! The tier on disk, as its users see it.

use std::{fs, time::Duration};

use buttress::{
    cache::{
        MemoryCache,
        tier::{DiskError, DiskTier, DiskTierBuilder, Lookup, Ticket, Tier, TierError, Tiered},
    },
    time::ManualClock,
};

use crate::support::{Folder, soon};

type Disk = DiskTier<u32, String>;

const HOUR: Duration = Duration::from_secs(3600);

fn builder(folder: &Folder) -> DiskTierBuilder {
    DiskTier::builder(folder.file(), "text/1")
}

async fn open(folder: &Folder) -> Disk {
    builder(folder).open().await.unwrap()
}

async fn value(disk: &Disk, key: u32) -> Option<String> {
    match disk.get(&key).await.unwrap() {
        Lookup::Hit { value, .. } => Some(value),
        Lookup::Miss(_) => None,
    }
}

async fn miss(disk: &Disk, key: u32) -> Ticket {
    match disk.get(&key).await.unwrap() {
        Lookup::Hit { value, .. } => panic!("there is {value}"),
        Lookup::Miss(ticket) => ticket,
    }
}

async fn put(disk: &Disk, key: u32, value: &str) {
    disk.put(&key, &value.to_owned(), None).await.unwrap();
}

#[tokio::test]
async fn what_was_put_survives_a_restart() {
    let folder = Folder::new();
    let disk = open(&folder).await;
    put(&disk, 1, "one").await;
    put(&disk, 2, "two").await;
    let ticket = miss(&disk, 3).await;
    assert!(disk.fill(&3, &"three".to_owned(), None, ticket).await.unwrap());
    disk.remove(&1).await.unwrap();
    disk.close().await;
    assert!(matches!(disk.get(&2).await, Err(TierError::Closed)));
    assert!(matches!(disk.put(&2, &String::new(), None).await, Err(TierError::Closed)));

    let disk = open(&folder).await;
    assert_eq!(disk.recovery(), None);
    assert_eq!((value(&disk, 1).await, value(&disk, 2).await.as_deref()), (None, Some("two")));
    assert_eq!(value(&disk, 3).await.as_deref(), Some("three"), "closing writes what is queued");
    disk.clear().await.unwrap();
    disk.close().await;
    let disk = open(&folder).await;
    assert_eq!((value(&disk, 2).await, disk.stats().entries), (None, 0));
}

#[tokio::test]
async fn entries_expire_also_while_nobody_runs() {
    let folder = Folder::new();
    let clock = ManualClock::new();
    let disk: Disk = builder(&folder).clock(clock.clone()).open().await.unwrap();
    disk.put(&1, &"one".to_owned(), Some(HOUR)).await.unwrap();
    disk.put(&2, &"two".to_owned(), None).await.unwrap();
    clock.advance(HOUR / 2);
    assert!(matches!(disk.get(&1).await.unwrap(), Lookup::Hit { ttl: Some(ttl), .. } if ttl == HOUR / 2));
    disk.close().await;
    clock.advance(HOUR / 2);
    let disk: Disk = builder(&folder).clock(clock.clone()).open().await.unwrap();
    miss(&disk, 1).await;
    assert!(matches!(disk.get(&2).await.unwrap(), Lookup::Hit { ttl: None, .. }));
    assert_eq!(disk.stats().damaged, 0);
    for key in 10..13 {
        put(&disk, key, "more").await;
    }
    assert_eq!(disk.stats().entries, 4, "it was swept out");
}

#[tokio::test]
async fn capacity_holds_while_many_write() {
    let folder = Folder::new();
    let capacity = 2 << 20;
    let disk: Disk = builder(&folder).capacity(capacity).entries(500).open().await.unwrap();
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let disk = disk.clone();
            tokio::spawn(async move {
                for at in 0..200 {
                    let key = writer * 1000 + at;
                    let ticket = miss(&disk, key).await;
                    let value = "x".repeat(usize::try_from(key * 31 % 8000).unwrap());
                    let _ = disk.fill(&key, &value, None, ticket).await;
                    let stats = disk.stats();
                    assert!(stats.bytes <= capacity && stats.entries <= 500, "{stats:?}");
                }
            })
        })
        .collect();
    for writer in writers {
        soon(writer).await.unwrap();
    }
    disk.flush().await.unwrap();
    let stats = disk.stats();
    println!("{stats:?}");
    assert!(stats.evicted > 0 && stats.file <= capacity * 3 + (8 << 20));
}

#[tokio::test]
async fn what_is_too_large_is_refused_and_harms_nothing() {
    let folder = Folder::new();
    let disk: Disk = builder(&folder).capacity(64 << 10).longest(32 << 10).open().await.unwrap();
    put(&disk, 1, "one").await;
    for len in [33 << 10, 100 << 10, 10 << 20] {
        let refused = disk.put(&2, &"x".repeat(len), None).await;
        assert!(matches!(refused, Err(TierError::TooLarge { .. })), "{refused:?}");
    }
    assert_eq!(value(&disk, 1).await.as_deref(), Some("one"));
    let tiny: Disk = DiskTier::builder(folder.path().join("tiny"), "").capacity(0).open().await.unwrap();
    assert!(matches!(tiny.put(&1, &String::new(), None).await, Err(TierError::TooLarge { .. })));
    miss(&tiny, 1).await;
}

#[tokio::test]
async fn a_fill_that_a_change_overtakes_is_refused() {
    let folder = Folder::new();
    let disk = open(&folder).await;
    let fill = async |key, ticket| disk.fill(&key, &"old".to_owned(), None, ticket).await.unwrap();
    for change in 0..3 {
        let ticket = miss(&disk, change).await;
        match change {
            0 => disk.remove(&change).await.unwrap(),
            1 => put(&disk, change, "new").await,
            _ => disk.clear().await.unwrap(),
        }
        assert!(!fill(change, ticket).await, "change {change}");
        assert!(!fill(change, Ticket::default()).await);
    }
    // Both in one batch, the fill behind the change.
    let ticket = miss(&disk, 7).await;
    let new = "new".to_owned();
    let (put, filled) = tokio::join!(disk.put(&7, &new, None), fill(7, ticket));
    put.unwrap();
    disk.flush().await.unwrap();
    assert_eq!(value(&disk, 7).await.as_deref(), Some("new"), "the fill was taken: {filled}");
}

#[tokio::test]
async fn a_file_belongs_to_one_at_a_time() {
    let folder = Folder::new();
    let disk = open(&folder).await;
    let second = builder(&folder).open::<u32, String>().await;
    assert!(matches!(second, Err(DiskError::InUse(_))));
    assert!(second.unwrap_err().to_string().ends_with("is in use: give each process a file of its own"));
    disk.close().await;
    open(&folder).await;
    let nowhere = DiskTier::builder(folder.path().join("no/such/folder"), "").open::<u32, String>().await;
    assert!(matches!(nowhere, Err(DiskError::Io { .. })));
}

#[tokio::test]
async fn the_last_handle_closes_the_file() {
    let folder = Folder::new();
    let disk = open(&folder).await;
    let ticket = miss(&disk, 1).await;
    disk.fill(&1, &"one".to_owned(), None, ticket).await.unwrap();
    drop(disk);
    crate::support::until("it is closed", async || builder(&folder).open::<u32, String>().await.is_ok())
        .await;
    crate::support::until("and again", async || {
        let Ok(disk) = builder(&folder).open().await else { return false };
        value(&disk, 1).await.as_deref() == Some("one")
    })
    .await;
}

#[tokio::test]
async fn a_file_that_is_no_cache_is_moved_aside_with_a_note() {
    let folder = Folder::new();
    fs::write(folder.file(), "my diary").unwrap();
    let disk = open(&folder).await;
    let recovery = disk.recovery().unwrap();
    assert_eq!(fs::read_to_string(recovery.moved_to).unwrap(), "my diary", "nothing is deleted");
    put(&disk, 1, "one").await;
    assert_eq!(value(&disk, 1).await.as_deref(), Some("one"));
}

#[tokio::test]
async fn another_schema_is_a_miss_that_can_be_filled() {
    let folder = Folder::new();
    let disk = open(&folder).await;
    put(&disk, 1, "one").await;
    disk.close().await;
    let disk: DiskTier<u32, u64> = DiskTier::builder(folder.file(), "number/1").open().await.unwrap();
    let Lookup::Miss(ticket) = disk.get(&1).await.unwrap() else { panic!("a wrong value") };
    assert_eq!(disk.stats().damaged, 1);
    disk.fill(&1, &1, None, ticket).await.unwrap();
    disk.flush().await.unwrap();
    assert!(matches!(disk.get(&1).await.unwrap(), Lookup::Hit { value: 1, .. }));
}

/// Damage comes to light while it is running: the tier begins a new file and goes on.
#[tokio::test]
async fn damage_under_way_costs_the_content_and_nothing_else() {
    let folder = Folder::new();
    let disk: Disk = builder(&folder).page_cache(0).open().await.unwrap();
    for key in 0..50 {
        put(&disk, key, &"x".repeat(5000)).await;
    }
    let len = fs::metadata(folder.file()).unwrap().len();
    // Same file, other content: from behind the header on.
    let mut file = fs::OpenOptions::new().write(true).open(folder.file()).unwrap();
    std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(4096)).unwrap();
    std::io::Write::write_all(&mut file, &vec![0xA5; usize::try_from(len - 4096).unwrap()]).unwrap();
    drop(file);
    for key in 0..50 {
        if let Ok(Lookup::Hit { value, .. }) = soon(disk.get(&key)).await {
            assert_eq!(value, "x".repeat(5000), "from a page cache");
        }
    }
    crate::support::until("it goes on", async || disk.put(&1, &"new".to_owned(), None).await.is_ok()).await;
    assert_eq!(value(&disk, 1).await.as_deref(), Some("new"));
    assert!(disk.recovery().is_some(), "{:?}", disk.stats());
}

/// A disk that is gone costs an attempt a second, and is used again once it is back.
#[tokio::test]
async fn a_disk_that_is_gone_is_left_alone_for_a_while() {
    let (folder, clock) = (Folder::new(), ManualClock::new());
    let disk: Disk = builder(&folder).page_cache(0).clock(clock.clone()).open().await.unwrap();
    let write = async |key| soon(disk.put(&key, &"new".to_owned(), None)).await.is_ok();
    assert!(write(1).await);
    let len = usize::try_from(fs::metadata(folder.file()).unwrap().len()).unwrap();
    fs::write(folder.file(), vec![0xA5; len]).unwrap();
    fs::remove_dir_all(folder.path()).unwrap();
    crate::support::until("it is found to be gone", async || {
        let _ = disk.get(&1).await;
        !write(1).await
    })
    .await;
    while write(1).await {}
    for _ in 0..3 {
        assert!(!write(1).await);
    }
    fs::create_dir_all(folder.path()).unwrap();
    assert!(!write(1).await && !folder.file().exists(), "it was tried again at once");
    clock.advance(Duration::from_secs(1));
    assert!(write(1).await && write(2).await);
    assert_eq!(value(&disk, 1).await.as_deref(), Some("new"));
}

#[tokio::test]
async fn a_stack_is_warm_after_a_restart() {
    let folder = Folder::new();
    for run in 0..2 {
        let disk = open(&folder).await;
        let stack = Tiered::builder(MemoryCache::new(10)).tier(disk.clone()).build();
        for key in 0..100 {
            let value = stack.get_with(&key, || async move { format!("loaded in run {run}") }).await;
            assert_eq!(value, "loaded in run 0");
        }
        disk.close().await;
    }
}

#[tokio::test]
async fn calls_may_be_given_up_at_any_time() {
    let folder = Folder::new();
    let disk = open(&folder).await;
    let mut rng = buttress::rng::Rng::seeded(5);
    for round in 0..300_u32 {
        let key = round % 10;
        let value = format!("{key} in {round}");
        let work = async {
            match round % 3 {
                0 => drop(disk.put(&key, &value, None).await),
                1 => drop(disk.remove(&key).await),
                _ => drop(disk.get(&key).await),
            }
        };
        let _ = tokio::time::timeout(Duration::from_micros(rng.below(500) as u64), work).await;
    }
    soon(disk.flush()).await.unwrap();
    for key in 0..10 {
        if let Some(value) = value(&disk, key).await {
            assert!(value.starts_with(&format!("{key} in ")));
        }
    }
    put(&disk, 1, "fine").await;
}
