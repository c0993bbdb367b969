//! Every example runs to its end and says something.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

/// Longer than any of them takes, so that one that hangs fails by name.
const PATIENCE: Duration = Duration::from_secs(30);
const STEP: Duration = Duration::from_millis(10);

/// The gateway runs until it is told to stop; its own test does that.
const SERVERS: [&str; 1] = ["gateway"];

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
