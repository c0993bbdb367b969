//! A process that writes is killed, a hundred times, and its file opened again.

use std::{
    env,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use buttress::{
    cache::tier::{DiskTier, Lookup, Tier},
    rng::Rng,
};
use tokio::time::Instant;

use crate::support::{Folder, PATIENCE};

const FILE: &str = "BUTTRESS_CRASH_FILE";
const ROUND: &str = "BUTTRESS_CRASH_ROUND";
const ROUNDS: u64 = 100;
const KEYS: u32 = 200;
const CAPACITY: u64 = 1 << 20;
const ENTRIES: u64 = 100;

/// A key and a version, and as many bytes as follow from both.
fn value(key: u32, version: u64) -> (u32, u64, Vec<u8>) {
    let mut rng = Rng::seeded(u64::from(key) << 32 ^ version);
    let words = rng.below(750);
    (key, version, rng.next_u64().to_le_bytes().repeat(words))
}

/// A process that ends leaves its writes to the system, synced or not; so most rounds save the time.
async fn open(file: &Path, round: u64) -> DiskTier<u32, (u32, u64, Vec<u8>)> {
    let disk = DiskTier::builder(file, "crash/1").capacity(CAPACITY).entries(ENTRIES);
    disk.sync(round.is_multiple_of(20)).open().await.unwrap()
}

/// The process that is killed: it writes for ever, and says what it has put or removed for good.
#[tokio::test]
#[ignore = "run by the test below, as a process of its own"]
async fn writer() {
    let Some(file) = env::var_os(FILE) else { return };
    // Versions grow from one process to the next.
    let round: u64 = env::var(ROUND).unwrap().parse().unwrap();
    let disk = open(Path::new(&file), round).await;
    let mut rng = Rng::from_thread();
    println!("ready");
    for version in round * 1_000_000.. {
        let key = u32::try_from(rng.below(KEYS as usize)).unwrap();
        match rng.below(8) {
            0 => {
                disk.remove(&key).await.unwrap();
                println!("removed {key}");
            }
            1 => {
                println!("changing {key}");
                disk.put(&key, &value(key, version), None).await.unwrap();
                println!("put {key} {version}");
            }
            _ => {
                if let Lookup::Miss(ticket) = disk.get(&key).await.unwrap() {
                    println!("changing {key}");
                    let _ = disk.fill(&key, &value(key, version), None, ticket).await;
                }
            }
        }
    }
}

#[tokio::test]
async fn killed_in_the_middle_of_writes_a_hundred_times_it_has_no_wrong_value() {
    let before = Instant::now();
    let folder = Folder::new();
    let mut rng = Rng::seeded(11);
    let (mut values, mut said, mut largest, mut aside) = (0_u64, 0, 0, 0);
    for round in 0..ROUNDS {
        // What the writer said last of each key: put with a version, removed, or, if not known, anything.
        let known =
            write_and_be_killed(&folder.file(), round, Duration::from_micros(rng.below(40_000) as u64));
        said += known.lines;
        let disk = open(&folder.file(), round).await;
        aside += u64::from(disk.recovery().is_some());
        let stats = disk.stats();
        assert!(stats.bytes <= CAPACITY && stats.entries <= ENTRIES, "round {round}: {stats:?}");
        largest = largest.max(stats.file);
        let mut entries = 0;
        for key in 0..KEYS {
            let Lookup::Hit { value: found, .. } = disk.get(&key).await.unwrap() else { continue };
            entries += 1;
            assert_eq!(found, value(key, found.1), "round {round}: a wrong value of {key}");
            match known.last.get(&key) {
                Some(Last::Put(version)) => {
                    assert!(found.1 >= *version, "round {round}: {key} went back to before a put");
                }
                Some(Last::Removed) => panic!("round {round}: {key} was removed"),
                Some(Last::Unknown) | None => {}
            }
        }
        assert_eq!(
            (entries, disk.stats().damaged),
            (stats.entries, 0),
            "round {round}: every entry can be read"
        );
        values += entries;
        disk.close().await;
    }
    println!(
        "{ROUNDS} kills in {:.1} s: {said} writes told of, {values} values read, none wrong; {aside} files moved aside; \
         the file was at most {} KiB for a capacity of {} KiB",
        before.elapsed().as_secs_f64(),
        largest / 1024,
        CAPACITY / 1024
    );
    assert!(values > ROUNDS && aside == 0);
}

enum Last {
    Put(u64),
    Removed,
    Unknown,
}

struct Known {
    last: std::collections::HashMap<u32, Last>,
    lines: u64,
}

/// Runs the writer for a while and kills it.
fn write_and_be_killed(file: &Path, round: u64, patience: Duration) -> Known {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["crash::writer", "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .env(FILE, file)
        .env(ROUND, round.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // Its first words are the test runner's.
    while !lines.next().expect("it died before it began").unwrap().ends_with("ready") {}
    let killer = std::thread::spawn(move || {
        std::thread::sleep(patience.min(PATIENCE));
        child.kill().unwrap();
        child.wait().unwrap();
    });
    let mut known = Known { last: std::collections::HashMap::new(), lines: 0 };
    // The last line may be torn.
    for line in lines.map_while(Result::ok) {
        let words: Vec<_> = line.split(' ').collect();
        let (key, last) = match words[..] {
            ["put", key, version] => (key, Last::Put(version.parse().unwrap())),
            ["removed", key] => (key, Last::Removed),
            ["changing", key] => (key, Last::Unknown),
            _ => continue,
        };
        known.lines += 1;
        if let Ok(key) = key.parse() {
            known.last.insert(key, last);
        }
    }
    killer.join().unwrap();
    known
}
