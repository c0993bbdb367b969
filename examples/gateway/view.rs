//! What the terminal shows: a table that changes in place, or lines where nobody could see that.

use std::{
    io::{self, IsTerminal, Write},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use tokio::time::{MissedTickBehavior, interval};

use crate::{
    status::{Snapshot, Status},
    table::{summary, table},
};

const FRAME: Duration = Duration::from_millis(500);
const LINE: Duration = Duration::from_secs(1);

/// What is said once.
pub(crate) struct Banner {
    pub(crate) addr: SocketAddr,
    pub(crate) tls: Option<SocketAddr>,
    pub(crate) admin: SocketAddr,
    pub(crate) is_demo: bool,
}

/// Shows how the nodes are doing until it is dropped.
pub(crate) async fn run(banner: Banner, status: Arc<Status>) {
    let is_terminal = io::stdout().is_terminal();
    let mut shown = if banner.show().is_ok() { Some(Shown::default()) } else { None };
    let mut ticks = interval(if is_terminal { FRAME } else { LINE });
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        status.sample();
        let Some(screen) = &mut shown else { continue };
        let snapshot = status.snapshot();
        let drawn = if is_terminal { screen.draw(&snapshot) } else { screen.log(&snapshot) };
        // Nobody reads any more: requests are served all the same.
        if drawn.is_err() {
            shown = None;
        }
    }
}

impl Banner {
    fn show(&self) -> io::Result<()> {
        let Self { addr, tls, admin, is_demo } = self;
        let mut out = io::stdout().lock();
        writeln!(out, "gateway  http://{addr}")?;
        if let Some(tls) = tls {
            writeln!(out, "gateway  https://{tls}")?;
        }
        writeln!(out, "admin    http://{admin}/status")?;
        if !admin.ip().is_loopback() {
            writeln!(out, "warning: whoever reaches the admin port may redirect all traffic")?;
        }
        if *is_demo {
            writeln!(out, "\nThree web servers of different speed are behind it. In another terminal:")?;
            writeln!(out, "  curl -i http://{addr}/")?;
            writeln!(out, "  wrk -c 4 -d 10 http://{addr}/      then -c 64: shares follow what each can do")?;
            writeln!(out, "  curl -X PUT -d '{{\"admin\":\"draining\"}}' http://{admin}/nodes/fast")?;
        }
        writeln!(out)?;
        out.flush()
    }
}

/// What was shown last.
#[derive(Default)]
struct Shown {
    lines: usize,
    line: String,
}

impl Shown {
    /// Puts the table in the place of the one before.
    fn draw(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        let lines = table(snapshot);
        let mut out = io::stdout().lock();
        out.write_all(frame(&lines, self.lines).as_bytes())?;
        self.lines = lines.len();
        out.flush()
    }

    /// Adds a line, if it says something new.
    fn log(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        let line = summary(snapshot);
        if line == self.line {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        writeln!(out, "{line}")?;
        self.line = line;
        out.flush()
    }
}

/// The lines, written over as many as `before`.
fn frame(lines: &[String], before: usize) -> String {
    // Up to the first line of before; each line is cleared to its end, and what is below too. Lines that are wider than
    // the terminal are cut off there: wrapped, they would take up more lines than are counted.
    let up = if before == 0 { String::new() } else { format!("\x1b[{before}F") };
    let lines: Vec<_> = lines.iter().map(|line| format!("{line}\x1b[K\n")).collect();
    format!("\x1b[?7l{up}{}\x1b[J\x1b[?7h", lines.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_drawn_over_the_one_before() {
        let lines = ["one".to_owned(), "two".to_owned()];
        assert_eq!(frame(&lines, 0), "\x1b[?7lone\x1b[K\ntwo\x1b[K\n\x1b[J\x1b[?7h");
        assert_eq!(frame(&lines[..1], 2), "\x1b[?7l\x1b[2Fone\x1b[K\n\x1b[J\x1b[?7h");
    }
}
