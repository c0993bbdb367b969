//! How evenly each placement shares keys out, and what moves when a node comes or goes.
//!
//! ```text
//! placement_report [--csv] [--plot FILE.svg]
//! ```
//!
//! Shares are of all keys. `excess` is what moves between two nodes that both stay: nobody gains by that. Figures
//! are exact, but those of rendezvous and jump: they come from a million keys, of which chance alone gives the
//! busiest of 1000 nodes some 10 % more than the mean, and their movement from a fifth of those.

use std::{error::Error, fmt::Write, fs, path::Path, thread};

use buttress::placement::{
    BalanceReport, HashringPlacement, JumpShards, KetamaPlacement, KeyHash, Maglev, MovePlan, Movement,
    Placement, PlacementError, Ranges, Rendezvous, Ring, SlotMap,
};

const NODES: [u32; 3] = [10, 100, 1000];
const VNODES: [u32; 3] = [40, 160, 1000];
/// What nginx gives a node.
const KETAMA_VNODES: u32 = 160;
const KEYS: u32 = 1_000_000;
const PLOT: &str = "target/placement_report.svg";
const HELP: &str = "usage: placement_report [--csv] [--plot FILE.svg]

--csv        rows `algorithm,nodes,vnodes,max_over_mean,stddev,moved_on_add,excess_on_add,moved_on_remove,
             excess_on_remove` and nothing else; vnodes is 0 where there are none
--plot FILE  where the plot goes; without it target/placement_report.svg, with --csv nowhere";

struct Row {
    algorithm: &'static str,
    nodes: u32,
    vnodes: u32,
    balance: BalanceReport,
    added: Movement,
    removed: Movement,
}

fn main() -> Result<(), Box<dyn Error>> {
    let (mut csv, mut plot) = (false, None);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--csv" => csv = true,
            "--plot" => plot = Some(words.next().ok_or("--plot needs a file")?),
            "--help" | "-h" => {
                println!("{HELP}");
                return Ok(());
            }
            other => return Err(format!("unknown option {other:?}: --help tells which there are").into()),
        }
    }
    let rows = measure_all()?;
    if csv {
        print!("{}", as_csv(&rows));
    } else {
        print!("{}", as_table(&rows));
        plot.get_or_insert_with(|| PLOT.to_owned());
    }
    if let Some(file) = plot {
        if let Some(folder) = Path::new(&file).parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&file, draw(&rows))?;
        if !csv {
            println!("\nplotted to {file}");
        }
    }
    Ok(())
}

/// Every algorithm in a thread of its own.
fn measure_all() -> Result<Vec<Row>, PlacementError> {
    type Measure = fn() -> Result<Vec<Row>, PlacementError>;
    let algorithms: [Measure; 7] = [rings, rendezvous, slots, maglev, jump, hashring, ketama];
    thread::scope(|scope| {
        let threads = algorithms.map(|measure| scope.spawn(measure));
        let rows = threads.into_iter().map(|thread| thread.join().expect("no algorithm panics"));
        rows.collect::<Result<Vec<_>, _>>().map(|rows| rows.into_iter().flatten().collect())
    })
}

fn list(count: u32) -> impl Iterator<Item = (String, u32)> {
    (0..count).map(|i| (format!("node-{i}"), 1))
}

fn rings() -> Result<Vec<Row>, PlacementError> {
    with_vnodes("ring", |nodes, vnodes| Ring::builder().vnodes(vnodes).build(list(nodes)))
}

fn hashring() -> Result<Vec<Row>, PlacementError> {
    with_vnodes("hashring", |nodes, vnodes| {
        let entries = (0..nodes).flat_map(|node| (0..vnodes).map(move |copy| ((node, copy), node as usize)));
        HashringPlacement::new(entries)
    })
}

fn ketama() -> Result<Vec<Row>, PlacementError> {
    NODES
        .into_iter()
        .map(|nodes| exact("ketama", nodes, KETAMA_VNODES, |n| KetamaPlacement::new(list(n))))
        .collect()
}

fn maglev() -> Result<Vec<Row>, PlacementError> {
    NODES.into_iter().map(|nodes| exact("maglev", nodes, 0, |n| Maglev::new(list(n)))).collect()
}

/// A map depends on the one before, so those for more and for fewer nodes come from this one.
fn slots() -> Result<Vec<Row>, PlacementError> {
    let row = |nodes| {
        let map = SlotMap::new(list(nodes))?;
        exact("slots", nodes, 0, |n| map.rebalanced(list(n)))
    };
    NODES.into_iter().map(row).collect()
}

fn rendezvous() -> Result<Vec<Row>, PlacementError> {
    NODES.into_iter().map(|nodes| sampled("rendezvous", nodes, |n| Rendezvous::new(list(n)))).collect()
}

fn jump() -> Result<Vec<Row>, PlacementError> {
    NODES.into_iter().map(|nodes| sampled("jump", nodes, |n| Ok(JumpShards::new(n)))).collect()
}

fn with_vnodes<P: Ranges>(
    algorithm: &'static str,
    build: impl Fn(u32, u32) -> Result<P, PlacementError>,
) -> Result<Vec<Row>, PlacementError> {
    let sizes = NODES.into_iter().flat_map(|nodes| VNODES.map(|vnodes| (nodes, vnodes)));
    sizes.map(|(nodes, vnodes)| exact(algorithm, nodes, vnodes, |n| build(n, vnodes))).collect()
}

fn exact<P: Ranges>(
    algorithm: &'static str,
    nodes: u32,
    vnodes: u32,
    build: impl Fn(u32) -> Result<P, PlacementError>,
) -> Result<Row, PlacementError> {
    let before = build(nodes)?;
    let movement = |count| Ok(MovePlan::between(&before, &build(count)?).movement);
    let (added, removed) = (movement(nodes + 1)?, movement(nodes - 1)?);
    Ok(Row { algorithm, nodes, vnodes, balance: BalanceReport::of(&before), added, removed })
}

fn sampled<P: Placement>(
    algorithm: &'static str,
    nodes: u32,
    build: impl Fn(u32) -> Result<P, PlacementError>,
) -> Result<Row, PlacementError> {
    let keys = |count| (0..count).map(|key: u32| KeyHash::of(&key));
    let before = build(nodes)?;
    let movement = |count| Ok(Movement::of_keys(&before, &build(count)?, keys(KEYS / 5)));
    let (added, removed) = (movement(nodes + 1)?, movement(nodes - 1)?);
    Ok(Row {
        algorithm,
        nodes,
        vnodes: 0,
        balance: BalanceReport::of_keys(&before, keys(KEYS)),
        added,
        removed,
    })
}

fn as_csv(rows: &[Row]) -> String {
    let mut csv = String::from(
        "algorithm,nodes,vnodes,max_over_mean,stddev,moved_on_add,excess_on_add,moved_on_remove,excess_on_remove\n",
    );
    for Row { algorithm, nodes, vnodes, balance, added, removed } in rows {
        let _ = writeln!(
            csv,
            "{algorithm},{nodes},{vnodes},{:.6},{:.6},{:.8},{:.8},{:.8},{:.8}",
            balance.max_over_mean(),
            balance.deviation(),
            added.moved,
            added.excess,
            removed.moved,
            removed.excess
        );
    }
    csv
}

fn as_table(rows: &[Row]) -> String {
    let mut table = format!(
        "{:<12}{:>6}{:>8}{:>10}{:>8}{:>22}{:>22}\n{:<12}{:>6}{:>8}{:>10}{:>8}{:>11}{:>11}{:>11}{:>11}\n",
        "",
        "",
        "",
        "busiest",
        "",
        "one node comes",
        "one node goes",
        "",
        "nodes",
        "vnodes",
        "/ mean",
        "stddev",
        "moved",
        "excess",
        "moved",
        "excess"
    );
    for Row { algorithm, nodes, vnodes, balance, added, removed } in rows {
        let vnodes = if *vnodes == 0 { "-".to_owned() } else { vnodes.to_string() };
        let max = balance.max_over_mean();
        let _ = write!(
            table,
            "{algorithm:<12}{nodes:>6}{vnodes:>8}{max:>10.3}{:>6.1} %",
            balance.deviation() * 100.0
        );
        for share in [added.moved, added.excess, removed.moved, removed.excess] {
            let _ = write!(table, "{:>9.3} %", share * 100.0);
        }
        table.push('\n');
    }
    table
}

/// Two panels over the number of nodes: the busiest node, and what moves when one comes, beside what has to.
fn draw(rows: &[Row]) -> String {
    let busiest = |row: &Row| row.balance.max_over_mean();
    let moved = |row: &Row| row.added.moved * f64::from(row.nodes + 1);
    let mut lines: Vec<(String, Vec<&Row>)> = Vec::new();
    for row in rows {
        let name = if row.vnodes == 0 {
            row.algorithm.to_owned()
        } else {
            format!("{} {}", row.algorithm, row.vnodes)
        };
        match lines.iter_mut().find(|(other, _)| *other == name) {
            Some((_, rows)) => rows.push(row),
            None => lines.push((name, vec![row])),
        }
    }
    let mut svg = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 900 320\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"900\" height=\"320\" fill=\"white\"/>\n",
    );
    panel(&mut svg, 40.0, "busiest node / mean", 1.7, &lines, busiest);
    panel(&mut svg, 410.0, "moved when a node comes / what has to", 8.0, &lines, moved);
    for (i, (name, _)) in lines.iter().enumerate() {
        let (colour, y) = (colour(i), 40.0 + 18.0 * i as f64);
        let _ = writeln!(
            svg,
            "<line x1=\"770\" y1=\"{y}\" x2=\"794\" y2=\"{y}\" stroke=\"{colour}\" stroke-width=\"2\"/>\
             <text x=\"800\" y=\"{}\">{name}</text>",
            y + 4.0
        );
    }
    svg + "</svg>\n"
}

/// From 1 at the bottom to `top`; nodes run to the right by factors of ten.
fn panel(
    svg: &mut String,
    left: f64,
    title: &str,
    top: f64,
    lines: &[(String, Vec<&Row>)],
    value: impl Fn(&Row) -> f64,
) {
    let x = |nodes: u32| left + (f64::from(nodes).log10() - 1.0) * 150.0;
    let y = |value: f64| 270.0 - (value.clamp(1.0, top) - 1.0) / (top - 1.0) * 230.0;
    let _ = writeln!(svg, "<text x=\"{left}\" y=\"22\" font-weight=\"bold\">{title}</text>");
    for step in 0..=4 {
        let tick = 1.0 + (top - 1.0) * f64::from(step) / 4.0;
        let _ = writeln!(
            svg,
            "<line x1=\"{left}\" y1=\"{0}\" x2=\"{1}\" y2=\"{0}\" stroke=\"#ddd\"/><text x=\"{2}\" y=\"{0}\" \
             text-anchor=\"end\">{tick:.2}</text>",
            y(tick),
            left + 300.0,
            left - 4.0
        );
    }
    for nodes in NODES {
        let _ =
            writeln!(svg, "<text x=\"{}\" y=\"288\" text-anchor=\"middle\">{nodes} nodes</text>", x(nodes));
    }
    for (i, (_, rows)) in lines.iter().enumerate() {
        let points: Vec<_> =
            rows.iter().map(|row| format!("{:.1},{:.1}", x(row.nodes), y(value(row)))).collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"/>",
            points.join(" "),
            colour(i)
        );
    }
}

fn colour(line: usize) -> String {
    format!("hsl({},70%,{}%)", line * 137 % 360, 35 + line % 3 * 10)
}
