//! A plot as SVG: a panel for each trace, a line for each cache.

use std::{fmt::Write, fs, io, path::Path};

use super::report::{Pair, is_peer};

const COLUMNS: usize = 3;
/// Of a panel, with its margins.
const PANEL: (f64, f64) = (380.0, 280.0);
/// Of the lines in it.
const FRAME: (f64, f64) = (310.0, 200.0);
const LEFT: f64 = 48.0;
const TOP: f64 = 36.0;
const LEGEND_ROW: f64 = 18.0;
const OURS: [&str; 8] =
    ["#08519c", "#3182bd", "#6baed6", "#2c7fb8", "#41b6c4", "#225ea8", "#1d91c0", "#7fcdbb"];
const PEERS: [&str; 12] = [
    "#8c6d31", "#bd9e39", "#7b4173", "#a55194", "#ce6dbd", "#637939", "#8ca252", "#b5cf6b", "#843c39",
    "#ad494a", "#e7969c", "#969696",
];

/// Writes the plot, and the folder it goes to where that is not there yet.
pub(crate) fn save(file: &Path, pairs: &[Pair]) -> io::Result<()> {
    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder)?;
    }
    fs::write(file, draw(pairs))
}

fn draw(pairs: &[Pair]) -> String {
    let panels: Vec<&[Pair]> = pairs.chunk_by(|a, b| a.trace == b.trace).collect();
    let names: Vec<&str> =
        pairs.first().map_or(Vec::new(), |pair| pair.results.iter().map(|(name, _)| name.as_str()).collect());
    let columns = panels.len().clamp(1, COLUMNS);
    let (width, bottom) = (columns as f64 * PANEL.0, panels.len().div_ceil(columns) as f64 * PANEL.1);
    let in_row = columns * 2;
    let height = bottom + names.len().div_ceil(in_row) as f64 * LEGEND_ROW + 12.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (i, panel) in panels.iter().enumerate() {
        let (x, y) = ((i % columns) as f64 * PANEL.0, (i / columns) as f64 * PANEL.1);
        let _ = write!(
            svg,
            "<g transform=\"translate({},{})\">\n{}</g>\n",
            x + LEFT,
            y + TOP,
            draw_panel(panel, &names)
        );
    }
    for (i, name) in names.iter().enumerate() {
        let (x, y) =
            ((i % in_row) as f64 * PANEL.0 / 2.0 + LEFT, (i / in_row) as f64 * LEGEND_ROW + bottom + 6.0);
        let (style, end, text, middle) = (style(name, &names), x + 24.0, x + 30.0, y + 4.0);
        let _ = writeln!(
            svg,
            "<line x1=\"{x}\" y1=\"{y}\" x2=\"{end}\" y2=\"{y}\" {style}/><text x=\"{text}\" y=\"{middle}\">{name}</text>"
        );
    }
    svg + "</svg>\n"
}

/// Capacities run to the right on a logarithmic scale, hit ratios upwards from the least to the most there is.
fn draw_panel(panel: &[Pair], names: &[&str]) -> String {
    let ratios =
        || panel.iter().flat_map(|pair| pair.results.iter().map(|(_, outcome)| outcome.hit_ratio() * 100.0));
    let (low, high) = (ratios().fold(100.0, f64::min).floor(), ratios().fold(0.0, f64::max).ceil());
    let place = |pair: &Pair| (pair.room.capacity() as f64).ln();
    let (first, last) = (panel.first().map_or(0.0, place), panel.last().map_or(0.0, place));
    // One capacity is a line of one point, in the middle.
    let x = |pair: &Pair| {
        if last > first { (place(pair) - first) / (last - first) * FRAME.0 } else { FRAME.0 / 2.0 }
    };
    let y = |ratio: f64| FRAME.1 - (ratio - low) / (high - low).max(1.0) * FRAME.1;

    let title = panel.first().map_or("", |pair| &pair.trace).replace('&', "&amp;").replace('<', "&lt;");
    let mut svg = format!("<text y=\"-12\" font-size=\"14\" font-weight=\"bold\">{title}</text>\n");
    for step in 0..=4 {
        let ratio = low + (high - low) * f64::from(step) / 4.0;
        let (y, text) = (y(ratio), y(ratio) + 4.0);
        let _ = writeln!(
            svg,
            "<line x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#dddddd\"/>\
             <text x=\"-6\" y=\"{text:.1}\" text-anchor=\"end\">{ratio:.0} %</text>",
            FRAME.0
        );
    }
    for pair in panel {
        let (x, capacity, bottom) = (x(pair), pair.room.capacity(), FRAME.1 + 16.0);
        let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{bottom}\" text-anchor=\"middle\">{capacity}</text>");
    }
    // The default last, on top of all others.
    let (front, back): (Vec<&str>, Vec<&str>) = names.iter().partition(|name| **name == "default");
    for name in back.into_iter().chain(front) {
        let mut points = String::new();
        for pair in panel {
            if let Some((_, outcome)) = pair.results.iter().find(|(other, _)| other == name) {
                let _ = write!(points, "{:.1},{:.1} ", x(pair), y(outcome.hit_ratio() * 100.0));
            }
        }
        let style = style(name, names);
        let _ = writeln!(
            svg,
            "<polyline points=\"{points}\" fill=\"none\" {style}><title>{name}</title></polyline>"
        );
    }
    svg
}

fn style(name: &str, names: &[&str]) -> String {
    let (color, width, dashes) = match name {
        "optimum" => ("#000000", 1.5, "5 3"),
        "default" => ("#d7301f", 3.0, "none"),
        _ => {
            let nth =
                names.iter().filter(|other| is_peer(other) == is_peer(name)).position(|other| *other == name);
            let nth = nth.unwrap_or(0);
            if is_peer(name) {
                (PEERS[nth % PEERS.len()], 1.2, "3 1")
            } else {
                (OURS[nth % OURS.len()], 1.5, "none")
            }
        }
    };
    format!(
        "stroke=\"{color}\" stroke-width=\"{width}\" stroke-dasharray=\"{dashes}\" stroke-linecap=\"round\""
    )
}
