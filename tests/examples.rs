//! Every example runs to its end and says something.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::Duration,
};

/// Longer than any of them takes, so that one that hangs fails by name.
const PATIENCE: Duration = Duration::from_secs(30);
const STEP: Duration = Duration::from_millis(10);

/// These run until they are told to stop; tests of their own do that.
const SERVERS: [&str; 2] = ["cdn", "gateway"];

#[test]
fn every_example_runs_and_says_something() {
    let names = sources();
    assert!(names.len() > 3, "only {names:?}");
    let missing: Vec<_> = names.iter().filter(|name| !binary(name).is_file()).collect();
    // `cargo test` builds them; `cargo test --test examples` alone does not.
    assert!(missing.is_empty(), "no binary of {missing:?}: run `cargo build --examples`");
    let runs: Vec<_> = names
        .into_iter()
        .filter(|name| !SERVERS.contains(&name.as_str()))
        .map(|name| thread::spawn(move || run(&name, &[])))
        .collect();
    let failures: Vec<_> = runs.into_iter().filter_map(|run| run.join().unwrap().err()).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn the_tiers_do_without_a_server_that_is_not_there() {
    let said = run("tiered_redis", &[("REDIS_URL", "redis://127.0.0.1:1/")]).unwrap();
    assert!(said.contains("here") && said.contains("Ada"), "{said}");
}

#[test]
fn every_example_is_in_the_index() {
    let index = fs::read_to_string(folder().join("README.md")).unwrap();
    for name in sources() {
        assert!(index.contains(&format!("[`{name}`]")), "{name} is not in examples/README.md");
    }
}

/// Keys of a small trace: some are asked for more often than others.
fn keys() -> Vec<u64> {
    (0..600_u64).map(|i| (i * i * 31 + i / 7) % 97 % (i % 40 + 2)).collect()
}

fn little_endian(words: impl IntoIterator<Item = u64>) -> Vec<u8> {
    words.into_iter().flat_map(u64::to_le_bytes).collect()
}

/// A folder of its own, with these files.
fn traces(name: &str, files: &[(&str, Vec<u8>)]) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).unwrap();
    for (file, bytes) in files {
        fs::write(folder.join(file), bytes).unwrap();
    }
    folder
}

fn hit_ratio(folder: &Path, args: &[&str]) -> Output {
    Command::new(binary("hit_ratio")).current_dir(folder).args(args).output().unwrap()
}

#[test]
fn hit_ratios_are_rows_and_none_is_above_the_optimum() {
    let packed = zstd::encode_all(little_endian(keys()).as_slice(), 0).unwrap();
    let folder = traces("hit_ratio", &[("plain.u64", little_endian(keys())), ("packed.u64.zst", packed)]);
    let output = hit_ratio(&folder, &["--csv", "--capacity", "12,3", "plain.u64", "packed.u64.zst"]);
    assert!(output.status.success(), "{output:?}");
    let rows = String::from_utf8(output.stdout).unwrap();
    let mut lines = rows.lines();
    assert_eq!(lines.next(), Some("trace,capacity,policy,requests,hits,hit_ratio"));
    let mut pairs: BTreeMap<(&str, usize), BTreeMap<&str, u64>> = BTreeMap::new();
    for line in lines {
        let fields: Vec<_> = line.split(',').collect();
        let &[trace, capacity, policy, requests, hits, ratio] = fields.as_slice() else { panic!("{line}") };
        assert_eq!(requests, "600", "{line}");
        let hits: u64 = hits.parse().unwrap();
        let ratio: f64 = ratio.parse().unwrap();
        assert!((ratio - hits as f64 / 600.0).abs() < 1e-6, "{line}");
        assert!(pairs.entry((trace, capacity.parse().unwrap())).or_default().insert(policy, hits).is_none());
    }
    assert_eq!(
        pairs.keys().copied().collect::<Vec<_>>(),
        [("packed", 3), ("packed", 12), ("plain", 3), ("plain", 12)]
    );
    for ((trace, capacity), hits) in &pairs {
        assert_eq!(hits["optimum"], belady(&keys(), *capacity), "{trace} {capacity}");
        assert!(hits.contains_key("default"));
        // These hold more than they were told to, some for a while, some because each of their shards keeps one.
        let overfull = ["peer:moka", "peer:quick_cache", "peer:foyer"];
        let keeps_to_capacity = |policy: &str| !overfull.iter().any(|peer| policy.starts_with(peer));
        for (policy, hits_of_policy) in hits.iter().filter(|(policy, _)| keeps_to_capacity(policy)) {
            assert!(*hits_of_policy <= hits["optimum"], "{policy} on {trace}, {capacity}: {hits_of_policy}");
        }
    }
    assert_eq!(pairs[&("plain", 3)]["optimum"], pairs[&("packed", 3)]["optimum"]);
}

/// Belady's optimum, slowly: of what is kept and the newcomer, that goes which is asked for last.
fn belady(keys: &[u64], capacity: usize) -> u64 {
    let mut kept = BTreeSet::new();
    let mut hits = 0;
    for (at, key) in keys.iter().enumerate() {
        hits += u64::from(!kept.insert(*key));
        let next = |key: &u64| keys[at + 1..].iter().position(|other| other == key).unwrap_or(usize::MAX);
        if kept.len() > capacity {
            let last = *kept.iter().max_by_key(|key| next(key)).unwrap();
            kept.remove(&last);
        }
    }
    hits
}

#[test]
fn hit_ratios_can_be_of_bytes() {
    let records = keys().into_iter().flat_map(|key| [key, 100 + key * 7]);
    let folder = traces("hit_ratio_bytes", &[("sized.kv64", little_endian(records))]);
    let output = hit_ratio(&folder, &["--csv", "--bytes", "sized.kv64"]);
    assert!(output.status.success(), "{output:?}");
    let rows = String::from_utf8(output.stdout).unwrap();
    assert!(rows.starts_with("trace,capacity,policy,requests,hits,hit_ratio,byte_hit_ratio\n"), "{rows}");
    assert!(rows.contains(",default,600,"), "{rows}");
}

#[test]
fn the_placement_report_keeps_what_the_placements_promise() {
    let output = Command::new(binary("placement_report")).arg("--csv").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let rows = String::from_utf8(output.stdout).unwrap();
    let mut lines = rows.lines();
    let header = "algorithm,nodes,vnodes,max_over_mean,stddev,moved_on_add,excess_on_add,moved_on_remove,excess_on_remove";
    assert_eq!(lines.next(), Some(header));
    let mut algorithms = BTreeSet::new();
    for line in lines {
        let fields: Vec<_> = line.split(',').collect();
        let (algorithm, figures) = (fields[0], fields[1..].iter().map(|field| field.parse::<f64>().unwrap()));
        let [nodes, _, max, deviation, added, excess, removed, too] =
            figures.collect::<Vec<_>>().try_into().unwrap();
        algorithms.insert(algorithm);
        assert!(algorithm == "maglev" || excess + too == 0.0, "{line}");
        assert!(added > excess && added < 0.3 && removed > too && removed < 0.3 && deviation < 0.3, "{line}");
        if algorithm == "ring" && fields[2] == "160" {
            assert!(max <= if nodes > 100.0 { 1.35 } else { 1.25 }, "{line}");
        }
    }
    let expected = ["hashring", "jump", "ketama", "maglev", "rendezvous", "ring", "slots"];
    assert_eq!(algorithms.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn hit_ratio_says_what_is_wrong_with_its_input() {
    let packed = zstd::encode_all(little_endian(keys()).as_slice(), 0).unwrap();
    let folder = traces(
        "hit_ratio_bad",
        &[
            ("odd.u64", vec![0; 12]),
            ("half.kv64", vec![0; 24]),
            ("empty.u64", Vec::new()),
            ("short.u64.zst", packed[..packed.len() / 2].to_vec()),
            ("noise.u64.zst", vec![7; 100]),
            ("huge.kv64", little_endian([1, u64::MAX])),
            ("plain.u64", little_endian(keys())),
            ("table.csv", b"1,2".to_vec()),
        ],
    );
    let cases: [(&[&str], &str); 14] = [
        (&["odd.u64"], "cut short"),
        (&["half.kv64"], "cut short"),
        (&["empty.u64"], "no request"),
        (&["short.u64.zst"], "damaged or cut short"),
        (&["noise.u64.zst"], "damaged or cut short"),
        (&["huge.kv64"], "above 4 GiB"),
        (&["table.csv"], "unknown kind of trace"),
        (&["missing.u64"], "cannot be opened"),
        (&["--bytes", "plain.u64"], "has none"),
        (&["--capacity", "0", "plain.u64"], "keeps nothing"),
        (&["--capacity", "ten", "plain.u64"], "no capacity"),
        (&["--capacity"], "needs numbers"),
        (&["--plot", "plain.u64/below.svg", "--capacity", "1", "plain.u64"], "cannot write the plot"),
        (&["--fast"], "unknown option"),
    ];
    for (args, problem) in cases {
        let output = hit_ratio(&folder, args);
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {complaint}");
        assert!(complaint.contains(problem), "{args:?}: {complaint}");
        assert!(!complaint.contains("panicked"), "{args:?}: {complaint}");
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

/// The names of the examples: files, and folders with a `main.rs`.
fn sources() -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "rs") || path.join("main.rs").is_file())
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

/// Cargo puts examples beside the folder of the test executables.
fn binary(name: &str) -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.set_file_name("examples");
    path.join(name).with_extension(std::env::consts::EXE_EXTENSION)
}

fn run(name: &str, environment: &[(&str, &str)]) -> Result<String, String> {
    let mut child = Command::new(binary(name))
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{name} does not start: {error}"))?;
    let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    // Read while it runs: a full pipe would stop it.
    let said = thread::spawn(move || {
        let mut said = String::new();
        stdout.read_to_string(&mut said).map(|_| said)
    });
    let complained = thread::spawn(move || {
        let mut complained = String::new();
        stderr.read_to_string(&mut complained).map(|_| complained)
    });
    let mut waited = Duration::ZERO;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if waited > PATIENCE {
            child.kill().unwrap();
            return Err(format!("{name} does not end"));
        }
        thread::sleep(STEP);
        waited += STEP;
    };
    let (said, complained) = (said.join().unwrap().unwrap(), complained.join().unwrap().unwrap());
    if !status.success() {
        return Err(format!("{name} ends with {status}: {complained}"));
    }
    if said.trim().is_empty() { Err(format!("{name} says nothing")) } else { Ok(said) }
}
