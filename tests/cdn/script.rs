//! Scripts of exchanges between a client, the cache and an origin.
//!
//! ```text
//! ## 4.2.1 Calculating Freshness Lifetime        a section of the RFC
//! # s-maxage goes before max-age                 a case, with a cache, a clock and an origin of its own
//! @ fallback-ttl 60                              settings of the cache, if they are not the default
//! * one value                                    the case is played with each of these in the place of {*}
//! > GET /path | accept: text/html                the client asks
//! ? if-none-match: "a" | !range                  what the origin must see, or must not
//! < 200 "body" | cache-control: max-age=60       the origin is asked, and this is its answer
//! = 200 "body" | age: 5 | !etag                  what the client must get
//! + 30                                           seconds pass
//! &                                              the cache asks on its own account: `?` and `<` follow
//! ```
//!
//! Without a `<` the origin must not be asked. `/` and `200` may be left out, and a field that must contain something is
//! written `name: ~something`, one with any value `name: *`. The origin adds `Date` and `Content-Length` if they are not
//! given and not taken out with `!date`. A body that is not given is the number of the answer within its case. `{+60}` is
//! the date in a minute, and `\xff` is a byte. The origin may also `< close` or `< reset` the connection, send less than
//! it promised with `< 200 short "body"`, or write what it wants with `< raw "HTTP/1.1 …"`. `= 200 broken` is an answer
//! that does not come to its end.

use std::time::Duration;

use crate::message::Fields;

/// A case: what happens, in order.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) section: String,
    pub(crate) name: String,
    pub(crate) settings: Vec<String>,
    pub(crate) steps: Vec<Step>,
}

#[derive(Debug)]
pub(crate) enum Step {
    Pass(Duration),
    /// A client asks, or the cache by itself.
    Ask {
        line: usize,
        request: Option<Ask>,
        origin: Vec<Origin>,
        expected: Option<Expected>,
    },
}

#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) fields: Fields,
    pub(crate) body: Option<String>,
}

/// What the origin must see, and how it answers.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) sees: Vec<Seen>,
    pub(crate) answer: Option<Answer>,
}

#[derive(Debug)]
pub(crate) enum Answer {
    Close,
    Reset,
    Raw(String),
    Usual { status: u16, fields: Fields, without: Vec<String>, body: Option<String>, is_short: bool },
}

#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) status: u16,
    pub(crate) body: Option<String>,
    pub(crate) is_broken: bool,
    pub(crate) sees: Vec<Seen>,
}

/// What a field must be.
#[derive(Debug)]
pub(crate) enum Seen {
    Absent(String),
    Any(String),
    Exactly(String, Vec<u8>),
    Containing(String, Vec<u8>),
}

pub(crate) fn parse(text: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut section = "";
    let mut lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim())).peekable();
    while let Some((at, line)) = lines.next() {
        if let Some(name) = line.strip_prefix("# ") {
            let mut steps = Vec::new();
            while let Some(step) = lines.next_if(|(_, line)| !line.starts_with('#')) {
                steps.push(step);
            }
            let values: Vec<_> = steps.iter().filter_map(|(_, line)| line.strip_prefix("* ")).collect();
            let values = if values.is_empty() { vec![""] } else { values };
            cases.extend(values.iter().map(|value| Case::read(section, name, value, &steps)));
        } else if let Some(name) = line.strip_prefix("## ") {
            section = name;
        } else {
            assert!(line.is_empty(), "line {at}: outside of a case");
        }
    }
    cases
}

impl Case {
    fn read(section: &str, name: &str, value: &str, steps: &[(usize, &str)]) -> Self {
        let name = if value.is_empty() { name.to_owned() } else { format!("{name} ({value})") };
        let mut case = Self { section: section.to_owned(), name, settings: Vec::new(), steps: Vec::new() };
        for (at, line) in steps.iter().filter(|(_, line)| !line.is_empty() && !line.starts_with("* ")) {
            let line = line.replace("{*}", value);
            let (sign, rest) = line.split_once(' ').unwrap_or((&line, ""));
            case.add(sign, rest, *at);
        }
        case
    }

    fn add(&mut self, sign: &str, rest: &str, line: usize) {
        let step = |request| Step::Ask { line, request, origin: Vec::new(), expected: None };
        match (sign, self.steps.last_mut()) {
            ("@", _) => self.settings.push(rest.to_owned()),
            ("+", _) => {
                let seconds = rest.parse().unwrap_or_else(|_| panic!("line {line}: no seconds"));
                self.steps.push(Step::Pass(Duration::from_secs_f64(seconds)));
            }
            (">", _) => self.steps.push(step(Some(ask(rest)))),
            ("&", _) => self.steps.push(step(None)),
            ("?", Some(Step::Ask { origin, .. })) => {
                origin.push(Origin { sees: seen(rest.split(" | ")), answer: None });
            }
            ("<", Some(Step::Ask { origin, .. })) => match origin.last_mut() {
                Some(Origin { answer: unsaid @ None, .. }) => *unsaid = Some(answer(rest)),
                _ => origin.push(Origin { sees: Vec::new(), answer: Some(answer(rest)) }),
            },
            ("=", Some(Step::Ask { expected, .. })) => *expected = Some(expect(rest)),
            _ => panic!("line {line}: {sign:?} has no place here"),
        }
    }
}

fn ask(text: &str) -> Ask {
    let mut parts = text.split(" | ");
    let first = parts.next().unwrap_or_default();
    let (first, body) = quoted(first);
    let mut words = first.split_whitespace();
    let method = words.next().unwrap_or("GET").to_owned();
    let target = words.next().unwrap_or("/").to_owned();
    Ask { method, target, fields: fields(parts), body }
}

fn answer(text: &str) -> Answer {
    let mut parts = text.split(" | ");
    let (first, body) = quoted(parts.next().unwrap_or_default());
    let mut words = first.split_whitespace().peekable();
    match words.peek() {
        Some(&"close") => return Answer::Close,
        Some(&"reset") => return Answer::Reset,
        Some(&"raw") => return Answer::Raw(quoted(text).1.unwrap_or_default()),
        _ => {}
    }
    let status = words.next_if(|word| word.parse::<u16>().is_ok()).map_or(200, |word| word.parse().unwrap());
    let is_short = words.next() == Some("short");
    let (without, fields): (Vec<_>, Vec<_>) = parts.partition(|part| part.starts_with('!'));
    let without = without.into_iter().map(|name| name[1..].to_owned()).collect();
    Answer::Usual { status, fields: self::fields(fields.into_iter()), without, body, is_short }
}

fn expect(text: &str) -> Expected {
    let mut parts = text.split(" | ");
    let (first, body) = quoted(parts.next().unwrap_or_default());
    let mut words = first.split_whitespace().peekable();
    let status = words.next_if(|word| word.parse::<u16>().is_ok()).map_or(200, |word| word.parse().unwrap());
    let is_broken = words.next() == Some("broken");
    Expected { status, body, is_broken, sees: seen(parts) }
}

fn fields<'a>(parts: impl Iterator<Item = &'a str>) -> Fields {
    let field = |part: &str| {
        let (name, value) = part.split_once(':').unwrap_or_else(|| panic!("{part:?} is no field"));
        (name.trim().to_owned(), unescape(value.trim()))
    };
    Fields(parts.map(field).collect())
}

fn seen<'a>(parts: impl Iterator<Item = &'a str>) -> Vec<Seen> {
    let one = |part: &str| match part.trim().split_once(':') {
        None => Seen::Absent(part.trim().trim_start_matches('!').to_owned()),
        Some((name, value)) => match (name.to_owned(), value.trim()) {
            (name, "*") => Seen::Any(name),
            (name, value) if value.starts_with('~') => Seen::Containing(name, unescape(&value[1..])),
            (name, value) => Seen::Exactly(name, unescape(value)),
        },
    };
    parts.map(one).collect()
}

/// A text in quotes at the end, and what is before it.
fn quoted(text: &str) -> (&str, Option<String>) {
    match text.split_once('"') {
        Some((before, rest)) => {
            let body = rest.trim_end().strip_suffix('"').unwrap_or_else(|| panic!("{text:?}: an open quote"));
            (before, Some(String::from_utf8(unescape(body)).expect("a text")))
        }
        None => (text, None),
    }
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    loop {
        rest = match rest {
            [] => return bytes,
            [b'\\', b'x', high, low, rest @ ..] => {
                let digits = [*high, *low];
                let digits = str::from_utf8(&digits).expect("two digits");
                bytes.push(u8::from_str_radix(digits, 16).expect("two hexadecimal digits"));
                rest
            }
            [b'\\', b'r', rest @ ..] => {
                bytes.push(b'\r');
                rest
            }
            [b'\\', b'n', rest @ ..] => {
                bytes.push(b'\n');
                rest
            }
            [byte, rest @ ..] => {
                bytes.push(*byte);
                rest
            }
        };
    }
}
