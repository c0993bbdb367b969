//! Plays scripts, and says what went otherwise.

use std::time::{Duration, SystemTime};

use buttress::{
    cdn::{
        CacheKey, Cdn,
        policy::{Policy, SetCookie},
    },
    time::{Clock, ManualClock},
};
use hyper::header::HeaderValue;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    message::{Fields, Message},
    script::{Answer, Ask, Case, Expected, Origin, Seen, Step, parse},
    stage::{Asked, End, PATIENCE, Stage, request},
};

/// Time for what the cache does after an answer: on this one thread all that is ready is done when it is over.
const SETTLE: Duration = Duration::from_millis(2);

pub(crate) async fn play_all(file: &'static str, text: &str) {
    let mut plays = JoinSet::new();
    let cases = parse(text);
    let count = cases.len();
    for case in cases {
        plays.spawn(async move {
            let outcome = play(&case).await;
            outcome.err().map(|(line, wrong)| {
                format!("{file}:{line}  {}\n    {}\n    {wrong}", case.section, case.name)
            })
        });
    }
    let mut failures: Vec<_> = plays.join_all().await.into_iter().flatten().collect();
    failures.sort();
    assert!(
        failures.is_empty(),
        "{} of {count} cases failed:\n\n{}\n",
        failures.len(),
        failures.join("\n\n")
    );
    assert_ne!(count, 0, "{file} is empty");
}

/// What is wrong, and with which line.
type Wrong = (usize, String);

async fn play(case: &Case) -> Result<(), Wrong> {
    let clock = ManualClock::new();
    let mut stage = Stage::set(cdn(&case.settings, &clock), clock).await;
    let mut answers = 0;
    let mut steps = case.steps.iter().peekable();
    while let Some(step) = steps.next() {
        // What the cache asks on its own account may come before the client has read its answer.
        let is_followed = matches!(steps.peek(), Some(Step::Ask { request: None, .. }));
        match step {
            Step::Pass(time) => stage.clock.advance(*time),
            Step::Ask { line, request, origin, expected } => {
                let ask = play_step(
                    &mut stage,
                    &mut answers,
                    request.as_ref(),
                    origin,
                    expected.as_ref(),
                    is_followed,
                );
                ask.await.map_err(|wrong| (*line, wrong))?;
            }
        }
    }
    Ok(())
}

async fn play_step(
    stage: &mut Stage,
    answers: &mut u32,
    ask: Option<&Ask>,
    origin: &[Origin],
    expected: Option<&Expected>,
    is_followed: bool,
) -> Result<(), String> {
    let mut client = ask.map(|ask| {
        let fields = Fields(ask.fields.0.iter().map(|(n, v)| (n.clone(), dated(v, &stage.clock))).collect());
        tokio::spawn(stage.ask(request(&ask.method, &ask.target, &fields, ask.body.as_deref())))
    });
    for Origin { sees, answer } in origin {
        let asked = match &mut client {
            Some(client) => tokio::select! {
                biased;
                asked = stage.asked() => asked,
                answer = client => {
                    return Err(format!("the origin was not asked; the client got {}", say(answer.unwrap())));
                }
            },
            None => timeout(PATIENCE, stage.asked()).await.map_err(|_| "the origin was not asked")?,
        };
        let wrong = sees.iter().find_map(|seen| seen.wrong(&asked.request.fields, &stage.clock));
        let request = asked.request.clone();
        *answers += 1;
        answer.as_ref().expect("a `<` after each `?`").send(asked, *answers, &stage.clock);
        if let Some(wrong) = wrong {
            return Err(format!("the origin saw {wrong}: {request}"));
        }
    }
    if let Some(client) = client {
        let answer = tokio::select! {
            answer = client => answer.unwrap(),
            asked = stage.asked(), if !is_followed => {
                return Err(format!("the origin was asked{}: {}", if origin.is_empty() { "" } else { " again" }, asked.request));
            }
        };
        let expected = expected.ok_or("the script has no `=`")?;
        let answer = answer?;
        // What was fetched just now is what the client gets.
        let fetched = origin.last().and_then(|last| last.answer.as_ref()?.body(expected.status, *answers));
        let fetched = fetched.filter(|_| ask.is_some_and(|ask| ask.method != "HEAD"));
        if let Some(wrong) = expected.wrong(&answer, fetched, &stage.clock) {
            return Err(format!("the client got {wrong}: {answer}"));
        }
    }
    sleep(SETTLE).await;
    Ok(())
}

fn say(answer: Result<Message, String>) -> String {
    answer.map_or_else(|error| error, |answer| answer.to_string())
}

impl Answer {
    /// The body that comes with this status, if this is the answer that does.
    fn body(&self, as_status: u16, number: u32) -> Option<String> {
        match self {
            Self::Usual { status, body, is_short: false, .. } if *status == as_status => {
                let has_body = !matches!(status, 100..200 | 204 | 304);
                has_body.then(|| body.clone().unwrap_or_else(|| number.to_string()))
            }
            _ => None,
        }
    }

    fn send(&self, asked: Asked, number: u32, clock: &ManualClock) {
        match self {
            Self::Close => asked.reply(Vec::new(), End::Close),
            Self::Reset => asked.reply(Vec::new(), End::Reset),
            Self::Raw(text) => asked.reply(dated(text.as_bytes(), clock), End::Close),
            Self::Usual { status, fields, without, body, is_short } => {
                let mut bytes = format!("HTTP/1.1 {status} Said So\r\n").into_bytes();
                let mut fields = Fields(fields.0.iter().map(|(n, v)| (n.clone(), dated(v, clock))).collect());
                let mut add = |name: &str, value: String| {
                    if !fields.has(name) && !without.iter().any(|absent| absent == name) {
                        fields.0.push((name.to_owned(), value.into_bytes()));
                    }
                };
                add("date", date(0, clock));
                let has_body = !matches!(status, 100..200 | 204 | 304);
                let body = body.clone().unwrap_or_else(|| number.to_string());
                if has_body {
                    add("content-length", (body.len() + usize::from(*is_short)).to_string());
                }
                fields.write(&mut bytes);
                bytes.extend(b"\r\n");
                if has_body && !asked.request.start.starts_with("HEAD ") {
                    bytes.extend(body.as_bytes());
                }
                let until_close =
                    *is_short || has_body && without.iter().any(|name| name == "content-length");
                asked.reply(bytes, if until_close { End::Close } else { End::Stay });
            }
        }
    }
}

impl Expected {
    fn wrong(&self, answer: &Message, fetched: Option<String>, clock: &ManualClock) -> Option<String> {
        if answer.status() != self.status {
            return Some(format!("not {}", self.status));
        }
        if answer.is_whole == self.is_broken {
            return Some((if self.is_broken { "a whole body" } else { "a broken body" }).to_owned());
        }
        let body = self.body.clone().or(fetched);
        if let Some(body) = body.filter(|body| body.as_bytes() != answer.body) {
            return Some(format!("not {body:?}"));
        }
        self.sees.iter().find_map(|seen| seen.wrong(&answer.fields, clock))
    }
}

impl Seen {
    fn wrong(&self, fields: &Fields, clock: &ManualClock) -> Option<String> {
        match self {
            Self::Absent(name) if name.is_empty() => None,
            Self::Absent(name) => fields.has(name).then(|| format!("{name:?}")),
            Self::Any(name) => (!fields.has(name)).then(|| format!("no {name:?}")),
            Self::Exactly(name, value) => {
                let value = dated(value, clock);
                let is = fields.get(name).is_some_and(|is| is == value);
                (!is).then(|| format!("another {name:?} than {:?}", String::from_utf8_lossy(&value)))
            }
            Self::Containing(name, part) => {
                let is =
                    fields.get(name).is_some_and(|is| is.windows(part.len()).any(|window| window == part));
                (!is).then(|| format!("no {:?} in {name:?}", String::from_utf8_lossy(part)))
            }
        }
    }
}

/// Puts dates in the place of `{+60}`.
fn dated(value: &[u8], clock: &ManualClock) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(value) else { return value.to_vec() };
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (offset, after) = after.split_once('}').expect("a closing brace");
        out += before;
        out += &date(offset.parse().expect("seconds from now"), clock);
        rest = after;
    }
    (out + rest).into_bytes()
}

fn date(offset: i64, clock: &ManualClock) -> String {
    let now = clock.wall().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    let at = now.saturating_add_signed(offset);
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(at))
}

/// A cache with these settings: a name and its value each.
fn cdn(settings: &[String], clock: &ManualClock) -> Cdn {
    let (mut cdn, mut key, mut policy) = (Cdn::builder(64 << 20), CacheKey::new(), Policy::new());
    for setting in settings {
        let (name, value) = setting.split_once(' ').unwrap_or((setting, ""));
        let seconds = || Duration::from_secs(value.parse().expect("seconds"));
        match name {
            "fallback-ttl" => policy = policy.fallback_ttl(seconds()),
            "negative-ttl" => policy = policy.negative_ttl(seconds()),
            "max-ttl" => policy = policy.max_ttl(seconds()),
            "stale-while-revalidate" => policy = policy.stale_while_revalidate(seconds()),
            "stale-if-error" => policy = policy.stale_if_error(seconds()),
            "stale-if-unreachable" => policy = policy.stale_if_unreachable(seconds()),
            "refuse-cookies" => policy = policy.set_cookie(SetCookie::Refuse),
            "strip-cookies" => policy = policy.set_cookie(SetCookie::Strip),
            "no-heuristics" => policy = policy.heuristics(0, Duration::ZERO),
            "no-client-directives" => policy = policy.client_directives(false),
            "sort-query" => key = key.sort_query(),
            "ignore-query" => key = key.ignore_query([value]),
            "only-query" => key = key.only_query([value]),
            "key-header" => key = key.header(value.parse().expect("a name")),
            "key-cookie" => key = key.cookie(value),
            "max-object" => cdn = cdn.max_object_size(value.parse().expect("bytes")),
            "name" => cdn = cdn.name(value),
            "no-cache-status" => cdn = cdn.without_cache_status(),
            "cache-control" => {
                let (prefix, value) = value.split_once(' ').expect("a prefix and a value");
                let (prefix, value): (_, HeaderValue) = (prefix.to_owned(), value.parse().expect("a value"));
                cdn = cdn.override_response(move |request, response| {
                    if request.uri.path().starts_with(&prefix) {
                        response.headers.insert("cdn-cache-control", value.clone());
                    }
                });
            }
            _ => panic!("no setting is called {name:?}"),
        }
    }
    cdn.key(key).policy(policy).clock(clock.clone()).build()
}
