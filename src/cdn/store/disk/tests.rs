use std::io::Write as _;

use http::{Request, Response};
use proptest::{collection::vec, prelude::*, sample::Index};

use super::*;
use crate::{
    cdn::{
        CacheKey, Purge,
        policy::Policy,
        store::{Limits, Lookup, Mark, Store, Ticket},
    },
    time::{Clock, ManualClock},
};

/// A folder of its own, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("buttress-cdn-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }

    fn files(&self) -> Vec<PathBuf> {
        let folders = fs::read_dir(self.0.join("objects")).into_iter().flatten();
        let files = folders.flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap());
        files.map(|file| file.unwrap().path()).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

async fn open(folder: &Folder) -> Store {
    with_memory(folder, 1 << 20).await
}

/// With so little memory nothing is found in it.
async fn without_memory(folder: &Folder) -> Store {
    with_memory(folder, 1).await
}

async fn with_memory(folder: &Folder, memory: u64) -> Store {
    let disk = DiskStore::open(&folder.0, 64 << 20).await.unwrap();
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new());
    Store::with_disk(Limits { memory, ..Limits::default() }, CacheKey::new().cookie("c"), disk, clock)
}

fn parts(path: &str, x: &str) -> http::request::Parts {
    Request::get(format!("http://a{path}")).header("x", x).body(()).unwrap().into_parts().0
}

fn key(store: &Store, path: &str) -> Key {
    store.keys().of(&parts(path, "")).unwrap()
}

fn stored(path: &str, x: &str, fields: &[(&str, &str)]) -> Stored {
    let mut answer = Response::builder().header("cache-control", "max-age=3600").header("vary", "x");
    for (name, value) in fields {
        answer = answer.header(*name, *value);
    }
    let moment = Moment::now(&ManualClock::new());
    let answer = answer.body(()).unwrap().into_parts().0;
    Policy::new().store(&parts(path, x), &answer, moment, moment).unwrap()
}

fn object(path: &str, x: &str, tag: &str, body: Vec<u8>) -> Object {
    Object::new(stored(path, x, &[("cache-tag", tag)]), Parts::whole([Bytes::from(body)]))
}

fn put(store: &Store, ticket: &Ticket, path: &str, x: &str, body: Vec<u8>) -> Option<Arc<Object>> {
    store.commit(ticket, &key(store, path), &parts(path, x).headers, object(path, x, "tag", body))
}

async fn keep(store: &Store, path: &str, x: &str, body: Vec<u8>) {
    assert!(put(store, &store.begin(&key(store, path)), path, x, body).is_some());
    store.settle_disk().await;
}

async fn recall(store: &Store, path: &str, x: &str) -> Option<(Arc<Object>, Mark)> {
    store.recall(&key(store, path), &parts(path, x).headers).await
}

async fn read(object: &Object, range: std::ops::Range<u64>) -> io::Result<Vec<u8>> {
    let mut reader = object.read(range).expect("it is here");
    let mut bytes = Vec::new();
    while let Some(chunk) = std::future::poll_fn(|cx| reader.poll_next(cx)).await {
        bytes.extend_from_slice(&chunk?);
    }
    assert_eq!(reader.left(), 0);
    Ok(bytes)
}

async fn body(store: &Store, path: &str, x: &str) -> Option<Vec<u8>> {
    let (object, _) = recall(store, path, x).await?;
    read(&object, 0..object.length()?).await.ok()
}

fn bytes(length: usize) -> Vec<u8> {
    (0..=250_u8).map(|byte| byte.wrapping_mul(7)).cycle().take(length).collect()
}

#[tokio::test]
async fn what_memory_lets_go_is_found_on_disk_and_after_a_restart() {
    let folder = Folder::new();
    let lengths = [0, 1, 1000, BLOCK - 1, BLOCK, BLOCK + 1, 256 << 10, (256 << 10) + 1, 3_000_000];
    {
        let store = without_memory(&folder).await;
        for (n, length) in lengths.into_iter().enumerate() {
            keep(&store, &format!("/{n}"), "", bytes(length)).await;
            assert_eq!(body(&store, &format!("/{n}"), "").await, Some(bytes(length)), "{length}");
        }
    }
    let store = without_memory(&folder).await;
    for (n, length) in lengths.into_iter().enumerate() {
        let (object, mark) = recall(&store, &format!("/{n}"), "").await.unwrap();
        assert_eq!((mark, object.length(), object.is_whole()), (Mark::Live, Some(length as u64), true));
        assert_eq!(object.stored().status(), 200);
        assert_eq!(object.parts().is_some(), length <= 256 << 10, "long bodies stay on disk");
        assert_eq!(read(&object, 0..length as u64).await.unwrap(), bytes(length));
    }
    assert!(recall(&store, "/other", "").await.is_none());
}

#[tokio::test]
async fn short_bodies_are_brought_to_memory_and_long_ones_take_none() {
    let folder = Folder::new();
    keep(&open(&folder).await, "/short", "", bytes(1000)).await;
    let store = open(&folder).await;
    let lookup =
        |path: &str| store.lookup(&key(&store, path), &parts(path, "").headers, ManualClock::new().now());
    assert!(matches!(lookup("/short"), Lookup::UriMiss));
    recall(&store, "/short", "").await.unwrap();
    assert!(matches!(lookup("/short"), Lookup::Found(..)));
    keep(&store, "/long", "", bytes(700_000)).await;
    let Lookup::Found(long, _) = lookup("/long") else { panic!("the head is in memory") };
    assert!(long.parts().is_none() && store.stats().weight < 100_000);
    assert_eq!(read(&long, 0..700_000).await.unwrap(), bytes(700_000));
}

#[tokio::test]
async fn ranges_of_files_are_read() {
    let folder = Folder::new();
    let store = open(&folder).await;
    let all = bytes(1_000_000);
    keep(&store, "/", "", all.clone()).await;
    let (object, _) = recall(&without_memory(&folder).await, "/", "").await.unwrap();
    for (start, end) in [
        (0, 1),
        (65_535, 65_537),
        (0, 1_000_000),
        (999_999, 1_000_000),
        (300_000, 300_000),
        (70_000, 700_000),
    ] {
        let part = usize::try_from(start).unwrap()..usize::try_from(end).unwrap();
        assert_eq!(read(&object, start..end).await.unwrap(), all[part]);
    }
    assert!(object.read(0..1_000_001).is_none());
    assert!(object.missing(10..2_000_000).is_empty());
}

#[tokio::test]
async fn variants_are_kept_apart_and_a_newer_one_takes_the_place_of_an_older() {
    let folder = Folder::new();
    let store = without_memory(&folder).await;
    for (x, length) in [("1", 10), ("2", 20), ("1", 30)] {
        keep(&store, "/", x, bytes(length)).await;
    }
    assert_eq!(body(&store, "/", "1").await, Some(bytes(30)));
    assert_eq!(body(&store, "/", "2").await, Some(bytes(20)));
    assert!(recall(&store, "/", "3").await.is_none());
    store.settle_disk().await;
    assert_eq!(folder.files().len(), 2);
}

#[tokio::test]
async fn purges_reach_the_disk_and_survive_a_restart() {
    let purges = [
        Purge::url("http://a/x").unwrap(),
        Purge::prefix("http://a/").unwrap(),
        Purge::prefix("/x").unwrap(),
        Purge::tag("tag").unwrap(),
        Purge::all(),
    ];
    for purge in purges.into_iter().flat_map(|purge| [purge.clone(), purge.soft()]) {
        let folder = Folder::new();
        let soft = purge.is_soft();
        let expected = soft.then_some(Mark::SoftPurged);
        {
            let store = without_memory(&folder).await;
            keep(&store, "/x", "", bytes(1000)).await;
            store.purge(&purge);
            let found = recall(&store, "/x", "").await.map(|(_, mark)| mark);
            assert_eq!(found, expected, "{purge:?}");
            store.settle_disk().await;
        }
        {
            let store = without_memory(&folder).await;
            let found = recall(&store, "/x", "").await.map(|(_, mark)| mark);
            assert_eq!(found, expected, "{purge:?} before a restart");
            // What comes after it stays.
            keep(&store, "/x", "", bytes(2000)).await;
        }
        let store = without_memory(&folder).await;
        let (object, mark) = recall(&store, "/x", "").await.unwrap();
        assert_eq!((object.length(), mark), (Some(2000), Mark::Live), "{purge:?}");
    }
}

#[tokio::test]
async fn what_was_fetched_before_a_purge_does_not_come_back_from_disk() {
    let folder = Folder::new();
    let purges = [Purge::url("http://a/x").unwrap(), Purge::tag("tag").unwrap()];
    for purge in purges {
        let store = without_memory(&folder).await;
        let ticket = store.begin(&key(&store, "/x"));
        assert!(put(&store, &ticket, "/x", "", bytes(1000)).is_some());
        // While it is being written, or after.
        store.purge(&purge);
        store.settle_disk().await;
        assert!(recall(&store, "/x", "").await.is_none());
        assert!(put(&store, &ticket, "/x", "", bytes(1000)).is_none());
        store.settle_disk().await;
        drop(ticket);
        drop(store);
        assert!(recall(&without_memory(&folder).await, "/x", "").await.is_none());
    }
}

#[tokio::test]
async fn a_new_head_takes_the_place_of_the_old_one_on_disk() {
    for length in [1000, 700_000] {
        let folder = Folder::new();
        {
            let store = open(&folder).await;
            keep(&store, "/", "", bytes(length)).await;
            for etag in ["\"1\"", "\"2\""] {
                let Lookup::Found(old, _) =
                    store.lookup(&key(&store, "/"), &parts("/", "").headers, ManualClock::new().now())
                else {
                    panic!("it is stored")
                };
                let ticket = store.begin(&key(&store, "/"));
                assert!(
                    store
                        .renew(&ticket, &key(&store, "/"), &old, stored("/", "", &[("etag", etag)]))
                        .is_some()
                );
                store.settle_disk().await;
            }
        }
        let store = without_memory(&folder).await;
        let (object, _) = recall(&store, "/", "").await.unwrap();
        assert_eq!(object.stored().header(&http::header::ETAG).unwrap(), "\"2\"");
        assert_eq!(read(&object, 0..length as u64).await.unwrap(), bytes(length));
        assert_eq!(folder.files().len(), 1);
    }
}

#[tokio::test]
async fn damage_anywhere_is_a_miss_or_an_error_and_never_wrong_bytes() {
    let folder = Folder::new();
    let good = {
        let store = without_memory(&folder).await;
        keep(&store, "/", "", bytes(400_000)).await;
        fs::read(&folder.files()[0]).unwrap()
    };
    let mut rng = crate::rng::Rng::seeded(5);
    for _ in 0..60 {
        let path = folder.files().pop().unwrap_or_else(|| folder.0.join("objects/00/0000000000000000"));
        let mut bad = good.clone();
        match rng.below(3) {
            0 => bad.truncate(rng.below(good.len())),
            1 => bad[rng.below(good.len())] ^= 1 << rng.below(8),
            _ => {
                let at =
                    if rng.below(2) == 0 { rng.below(good.len()) } else { good.len() - 1 - rng.below(600) };
                for (byte, noise) in bad[at..].iter_mut().zip(rng.next_u64().to_le_bytes()) {
                    *byte = noise;
                }
            }
        }
        fs::write(&path, &bad).unwrap();
        let store = without_memory(&folder).await;
        if let Some((object, _)) = recall(&store, "/", "").await {
            assert_eq!(object.length(), Some(400_000));
            if let Ok(read) = read(&object, 0..400_000).await {
                assert_eq!(read, bytes(400_000));
                assert!(bad == good || bad[400_000..] == good[400_000..]);
            } else {
                drop(object);
                assert!(recall(&store, "/", "").await.is_none(), "once is enough");
            }
        }
        store.settle_disk().await;
    }
}

#[tokio::test]
async fn drafts_and_foreign_files_are_cleared_away() {
    let folder = Folder::new();
    keep(&open(&folder).await, "/", "", bytes(10)).await;
    fs::write(folder.0.join("drafts/0000000000000007"), "torn").unwrap();
    fs::write(folder.0.join("objects/00/readme"), "?").unwrap();
    let store = without_memory(&folder).await;
    assert_eq!(fs::read_dir(folder.0.join("drafts")).unwrap().count(), 0);
    assert_eq!(folder.files().len(), 1);
    assert_eq!(body(&store, "/", "").await, Some(bytes(10)));
}

#[tokio::test]
async fn without_the_notes_of_purges_nothing_is_believed() {
    for damage in ["lost", "damaged"] {
        let folder = Folder::new();
        {
            let store = without_memory(&folder).await;
            keep(&store, "/", "", bytes(10)).await;
            for n in 0..3 {
                store.purge(&Purge::tag(format!("other{n}")).unwrap());
            }
            store.settle_disk().await;
        }
        let notes = folder.0.join("purges");
        if damage == "lost" {
            fs::remove_file(&notes).unwrap();
        } else {
            let mut journal = fs::read(&notes).unwrap();
            journal[14] ^= 1;
            fs::write(&notes, journal).unwrap();
        }
        assert!(recall(&without_memory(&folder).await, "/", "").await.is_none(), "{damage}");
    }
}

#[tokio::test]
async fn a_purge_whose_note_was_lost_lends_its_number_to_no_other() {
    let folder = Folder::new();
    {
        let store = without_memory(&folder).await;
        store.purge(&Purge::tag("other").unwrap());
        keep(&store, "/", "", bytes(10)).await;
    }
    let notes = fs::OpenOptions::new().write(true).open(folder.0.join("purges")).unwrap();
    notes.set_len(20).unwrap();
    let store = without_memory(&folder).await;
    assert!(recall(&store, "/", "").await.is_some());
    store.purge(&Purge::tag("tag").unwrap());
    assert!(recall(&store, "/", "").await.is_none());
}

#[tokio::test]
async fn purges_after_a_torn_note_survive_too() {
    let folder = Folder::new();
    {
        let store = without_memory(&folder).await;
        keep(&store, "/", "", bytes(10)).await;
        store.purge(&Purge::tag("other").unwrap());
        store.settle_disk().await;
    }
    let notes = folder.0.join("purges");
    let journal = fs::read(&notes).unwrap();
    fs::write(&notes, [&journal[..], &journal[..journal.len() - 3]].concat()).unwrap();
    {
        let store = without_memory(&folder).await;
        assert!(recall(&store, "/", "").await.is_some());
        store.purge(&Purge::tag("tag").unwrap());
        store.settle_disk().await;
    }
    assert!(recall(&without_memory(&folder).await, "/", "").await.is_none());
}

#[tokio::test]
async fn the_folder_is_bounded() {
    let folder = Folder::new();
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new());
    let disk = DiskStore::open(&folder.0, 1 << 20).await.unwrap();
    let store =
        Store::with_disk(Limits { memory: 1, ..Limits::default() }, CacheKey::new().cookie("c"), disk, clock);
    for n in 0..200 {
        keep(&store, &format!("/{n}"), "", bytes(n * 131 % 60_000)).await;
    }
    keep(&store, "/large", "", bytes(200_000)).await;
    store.settle_disk().await;
    let total: u64 = folder.files().iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    assert!(total <= 1 << 20, "{total}");
    assert!(recall(&store, "/large", "").await.is_none(), "more than an eighth");
    assert!(folder.files().len() > 10);
}

proptest! {
    #[test]
    fn journals_that_are_torn_or_damaged_are_not_half_believed(
        names in vec(any::<u64>(), 1..20),
        cut: Index,
        damage in any::<Option<Index>>(),
    ) {
        let records: Vec<_> = (1..).zip(&names).map(|(n, name)| journal::record(n, Target::Name(*name), false)).collect();
        let mut bytes = records.concat();
        let whole = bytes.len();
        bytes.truncate(cut.index(whole + 1));
        let length = records[0].len();
        let kept = bytes.len() / length;
        let purges = Purges::new(0);
        if let Some(damage) = damage.filter(|_| !bytes.is_empty()) {
            let at = damage.index(bytes.len());
            bytes[at] ^= 0x40;
            let believed = journal::replay(&bytes, &purges);
            // Damage of a length looks like a torn end.
            let is_excused = at % length < 4 || at / length + 1 >= kept;
            prop_assert!(believed.is_none() || is_excused);
            prop_assert!(believed.unwrap_or(0) <= (at / length * length) as u64);
        } else {
            prop_assert_eq!(journal::replay(&bytes, &purges), Some((kept * length) as u64));
            prop_assert_eq!(purges.last(), kept as u64);
            for name in &names[..kept] {
                prop_assert_eq!(purges.verdict(b"", b"", [*name], 0), Verdict::Purged);
            }
        }
    }

    #[test]
    fn garbage_is_no_file(garbage: Vec<u8>, is_signed: bool) {
        let folder = Folder::new();
        fs::create_dir_all(&folder.0).unwrap();
        let mut garbage = garbage;
        if is_signed {
            garbage.extend_from_slice(b"bcdnobj1");
        }
        let path = folder.0.join("file");
        fs::File::create(&path).unwrap().write_all(&garbage).unwrap();
        prop_assert!(file::read_tail(&mut fs::File::open(&path).unwrap()).is_err());
    }
}

#[tokio::test]
async fn what_is_taken_out_or_replaced_while_it_is_written_is_not_found_on_disk() {
    let folder = Folder::new();
    let store = open(&folder).await;
    let (key, headers) = (key(&store, "/"), parts("/", "").headers);
    let ticket = store.begin(&key);
    let object = put(&store, &ticket, "/", "", bytes(1000)).unwrap();
    store.discard(&key, &object);
    store.settle_disk().await;
    assert!(recall(&store, "/", "").await.is_none());
    // A part in the place of what was whole, which stays in memory.
    keep(&store, "/", "", bytes(1000)).await;
    let part = Parts::part(5, [Bytes::from_static(b"part")], Some(1000)).unwrap();
    store.commit(&ticket, &key, &headers, Object::new(stored("/", "", &[]), part));
    store.settle_disk().await;
    assert!(folder.files().is_empty());
}

#[tokio::test]
async fn a_url_is_purged_of_all_its_keys_after_a_restart() {
    let folder = Folder::new();
    let mut request = parts("/x", "");
    request.headers.insert("cookie", http::HeaderValue::from_static("c=1"));
    {
        let store = without_memory(&folder).await;
        let key = store.keys().of(&request).unwrap();
        let new = object("/x", "", "tag", bytes(10));
        assert!(store.commit(&store.begin(&key), &key, &request.headers, new).is_some());
        store.settle_disk().await;
    }
    let store = without_memory(&folder).await;
    store.purge(&Purge::url("http://a/x").unwrap());
    let key = store.keys().of(&request).unwrap();
    assert!(store.recall(&key, &request.headers).await.is_none());
}

#[tokio::test]
async fn a_file_does_not_grow_with_each_new_head() {
    let folder = Folder::new();
    let store = with_memory(&folder, 64 << 20).await;
    let long = "x".repeat(50_000);
    let mut renewed = 0;
    for _ in 0..60 {
        let lookup = store.lookup(&key(&store, "/"), &parts("/", "").headers, ManualClock::new().now());
        let Lookup::Found(old, _) = lookup else {
            keep(&store, "/", "", bytes(300_000)).await;
            continue;
        };
        let ticket = store.begin(&key(&store, "/"));
        let head = stored("/", "", &[("x-long", &long)]);
        renewed += usize::from(store.renew(&ticket, &key(&store, "/"), &old, head).is_some());
        store.settle_disk().await;
        let files = folder.files();
        assert!(files.iter().all(|file| fs::metadata(file).unwrap().len() < 2_000_000));
    }
    assert!(renewed > 40);
}
