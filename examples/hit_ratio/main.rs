//! Which cache finds most: every policy here, its peers and Belady's optimum on traces of real requests.
//!
//! ```text
//! cargo run --release --example hit_ratio -- [--csv] [--bytes] [--capacity N,…] [--plot FILE.svg] [FILE…]
//! ```
//!
//! Each cache is read through, one request after another: asked for the key, and given it when it has it not. Each is
//! built as its users build it, with its defaults. Some hold more than their capacity for a while, as moka does, which
//! tidies up in batches; the table says how full each was at its fullest.

mod args;
mod optimum;
mod ours;
mod peers;
mod plot;
mod replay;
mod report;
mod synthetic;
mod trace;

use std::{
    io::{self, ErrorKind, Write},
    process::ExitCode,
};

use self::{
    args::{Args, Command},
    replay::{Entrant, Outcome, Room},
    report::Pair,
    trace::Trace,
};

fn main() -> ExitCode {
    let args = match args::parse(std::env::args_os().skip(1)) {
        Ok(Command::Run(args)) => args,
        Ok(Command::Help) => {
            println!("{}", args::HELP);
            return ExitCode::SUCCESS;
        }
        Err(problem) => return fail(&problem),
    };
    match run(&args) {
        // Whoever reads the table has seen enough, as `head` does.
        Err(Problem::Output(error)) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(Problem::Output(error)) => fail(&format!("cannot write: {error}")),
        Err(Problem::Input(problem)) => fail(&problem),
        Ok(()) => ExitCode::SUCCESS,
    }
}

fn fail(problem: &str) -> ExitCode {
    eprintln!("hit_ratio: {problem}");
    ExitCode::FAILURE
}

/// Why a run stops.
enum Problem {
    Input(String),
    Output(io::Error),
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

fn run(args: &Args) -> Result<(), Problem> {
    let (mut stdout, mut stderr) = (io::stdout().lock(), io::stderr().lock());
    // Rows for machines have the output to themselves.
    let (mut rows, text): (Option<&mut dyn Write>, &mut dyn Write) =
        if args.csv { (Some(&mut stdout), &mut stderr) } else { (None, &mut stdout) };
    if let Some(rows) = &mut rows {
        report::header(rows, args.bytes)?;
    }
    let mut pairs = Vec::new();
    let mut measure = |trace: &Trace| -> Result<(), Problem> {
        let mut of_trace = Vec::new();
        for room in rooms(trace, args) {
            let pair = Pair { trace: trace.name.clone(), room, results: contest(trace, room) };
            if let Some(rows) = &mut rows {
                report::rows(rows, &pair)?;
            }
            of_trace.push(pair);
        }
        report::table(text, trace, &of_trace)?;
        pairs.append(&mut of_trace);
        Ok(())
    };
    if args.files.is_empty() {
        synthetic::traces().iter().try_for_each(&mut measure)?;
    }
    for file in &args.files {
        let trace =
            trace::read(file).map_err(|problem| Problem::Input(format!("{}: {problem}", file.display())))?;
        if args.bytes && !trace.has_sizes() {
            return Err(Problem::Input(format!("{}: --bytes needs sizes, and it has none", file.display())));
        }
        measure(&trace)?;
    }
    report::summary(text, &pairs)?;
    if let Some(file) = &args.plot {
        plot::save(file, &pairs)
            .map_err(|error| Problem::Input(format!("cannot write the plot {}: {error}", file.display())))?;
        writeln!(text, "\nplot: {}", file.display())?;
    }
    Ok(())
}

/// The capacities asked for, or those of which published figures speak: 1, 5, 10 and 20 % of what there is.
fn rooms(trace: &Trace, args: &Args) -> Vec<Room> {
    let all = if args.bytes { trace.distinct_bytes } else { trace.distinct };
    let mut capacities = args.capacities.clone();
    if capacities.is_empty() {
        capacities.extend([1, 5, 10, 20].map(|percent| ((all * percent + 50) / 100).max(1)));
    }
    capacities.dedup();
    capacities
        .into_iter()
        .map(|capacity| if args.bytes { Room::Bytes(capacity) } else { Room::Entries(capacity) })
        .collect()
}

/// What each cache makes of a trace, in the order of the tables.
fn contest(trace: &Trace, room: Room) -> Vec<(String, Outcome)> {
    let entrants = [optimum::ENTRANTS, ours::ENTRANTS, peers::ENTRANTS].concat();
    entrants
        .into_iter()
        .filter_map(|Entrant { name, play }| Some((name.to_owned(), play(trace, room)?)))
        .collect()
}
