//! Random histories: an answer from the cache is always one that the origin gave, or confirmed, and that may still be used.

use std::{
    convert::Infallible,
    fmt,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use buttress::{
    cdn::{Cdn, Purge},
    time::{Clock, ManualClock},
};
use bytes::Bytes;
use fastrand::Rng;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, Response, StatusCode};
use tokio::task::yield_now;
use tower::{Service, service_fn};

use crate::stage::HOST;

const HISTORIES: u64 = 150;
const STEPS: usize = 60;

const PATHS: [&str; 3] = ["/a", "/a?b", "/c"];
const LANGUAGES: [&str; 2] = ["en", "de"];

/// What the origin said about an answer that it gave or confirmed.
#[derive(Clone, Debug)]
struct Word {
    path: usize,
    /// The language of the request, if the answer depends on it.
    language: Option<usize>,
    version: u32,
    at: Instant,
    storable: bool,
    /// How long the answer may be used without asking.
    lifetime: Duration,
    /// For how long after that it may be used while it is being fetched, or instead of an error.
    stale: Duration,
    /// A later change or purge has made it worthless.
    is_void: bool,
}

struct Origin {
    rng: Rng,
    clock: ManualClock,
    /// The version of each path, which changes now and then.
    versions: [u32; PATHS.len()],
    words: Vec<Word>,
    /// Paths that the origin has been asked for since somebody looked.
    asked: usize,
}

impl Origin {
    fn answer<B>(&mut self, request: &Request<B>) -> Response<Full<Bytes>> {
        self.asked += 1;
        let path = PATHS.iter().position(|path| *request.uri() == **path).expect("a path of ours");
        if *request.method() == Method::POST {
            return self.change(path);
        }
        if self.rng.u8(..8) == 0 {
            return status(StatusCode::SERVICE_UNAVAILABLE);
        }
        let [lifetime, stale] = [self.rng.u64(..20), self.rng.u64(..20)].map(Duration::from_secs);
        let varies = path == 2;
        let language = request.headers().get("accept-language");
        let language = LANGUAGES.iter().position(|name| language.is_some_and(|is| is == name));
        let forbidden = self.rng.choice(["no-store, ", "private, ", "", "", "", ""]).unwrap_or_default();
        let version = self.versions[path];
        self.words.push(Word {
            path,
            language: language.filter(|_| varies),
            version,
            at: self.clock.now(),
            storable: forbidden.is_empty(),
            lifetime,
            stale,
            is_void: false,
        });
        let [lifetime, stale] = [lifetime, stale].map(|time| time.as_secs());
        let tag = format!("\"{version}\"");
        let is_known = request.headers().get("if-none-match").is_some_and(|known| *known == *tag);
        let body = if is_known { String::new() } else { version.to_string() };
        let mut answer = Response::new(Full::from(body));
        if is_known {
            *answer.status_mut() = StatusCode::NOT_MODIFIED;
        }
        let control =
            format!("{forbidden}max-age={lifetime}, stale-while-revalidate={stale}, stale-if-error={stale}");
        answer.headers_mut().insert("cache-control", control.parse().expect("a value"));
        answer.headers_mut().insert("etag", tag.parse().expect("a value"));
        answer.headers_mut().insert("cache-tag", format!("tag-{path}").parse().expect("a value"));
        if varies {
            answer.headers_mut().insert("vary", "accept-language".parse().expect("a value"));
        }
        answer
    }

    fn change(&mut self, path: usize) -> Response<Full<Bytes>> {
        if self.rng.bool() {
            return status(StatusCode::CONFLICT);
        }
        self.versions[path] += 1;
        self.void(|word| word.path == path);
        status(StatusCode::NO_CONTENT)
    }

    fn void(&mut self, which: impl Fn(&Word) -> bool) {
        self.words.iter_mut().filter(|word| which(word)).for_each(|word| word.is_void = true);
    }

    /// Whether a word of the origin allows this answer.
    fn allows(&self, path: usize, language: usize, version: u32) -> bool {
        let now = self.clock.now();
        self.words.iter().any(|word| {
            word.path == path
                && word.version == version
                && word.language.is_none_or(|it| it == language)
                && word.storable
                && !word.is_void
                // Ages are whole seconds: one may be missing.
                && now <= word.at + word.lifetime + word.stale + Duration::from_secs(1)
        })
    }
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    answer
}

#[derive(Debug)]
enum Step {
    Get { path: usize, language: usize },
    Post { path: usize },
    Pass(u64),
    Change { path: usize },
    Purge { path: usize, tag: bool },
}

impl Step {
    fn random(rng: &mut Rng) -> Self {
        let path = rng.usize(..PATHS.len());
        match rng.u8(..20) {
            0..12 => Self::Get { path, language: rng.usize(..LANGUAGES.len()) },
            12..17 => Self::Pass(rng.u64(1..15)),
            17 => Self::Post { path },
            18 => Self::Change { path },
            _ => Self::Purge { path, tag: rng.bool() },
        }
    }
}

#[tokio::test]
async fn an_answer_is_one_that_the_origin_allows() {
    let mut hits = 0;
    for seed in 0..HISTORIES {
        hits += history(seed).await.unwrap_or_else(|wrong| panic!("history {seed}: {wrong}"));
    }
    assert!(hits > HISTORIES * 5, "only {hits}: it proves little");
}

async fn history(seed: u64) -> Result<u64, impl fmt::Display> {
    let mut rng = Rng::with_seed(seed);
    let clock = ManualClock::new();
    let cdn = Cdn::builder(1 << 20).clock(clock.clone()).build();
    let origin =
        Origin { rng: rng.fork(), clock: clock.clone(), versions: [1; 3], words: Vec::new(), asked: 0 };
    let origin = Arc::new(Mutex::new(origin));
    let behind = Arc::clone(&origin);
    let mut service = cdn.service(service_fn(move |request: Request<Full<Bytes>>| {
        let answer = behind.lock().unwrap().answer(&request);
        async move { Ok::<_, Infallible>(answer) }
    }));
    let (mut hits, mut steps) = (0, Vec::new());
    for _ in 0..STEPS {
        let step = Step::random(&mut rng);
        steps.push(format!("{step:?}"));
        match step {
            Step::Pass(seconds) => clock.advance(Duration::from_secs(seconds)),
            Step::Change { path } => origin.lock().unwrap().versions[path] += 1,
            Step::Purge { path, tag } => {
                let url = format!("http://{HOST}{}", PATHS[path]);
                let purge = if tag { Purge::tag(format!("tag-{path}")) } else { Purge::url(url) };
                cdn.purge(&purge.unwrap());
                origin.lock().unwrap().void(|word| word.path == path);
            }
            Step::Post { path } => drop(ask(&mut service, Method::POST, path, 0).await),
            Step::Get { path, language } => {
                origin.lock().unwrap().asked = 0;
                let (status, body) = ask(&mut service, Method::GET, path, language).await;
                let origin = origin.lock().unwrap();
                if status != StatusCode::OK {
                    continue;
                }
                let version =
                    body.parse().map_err(|_| format!("{body:?} is no answer of the origin: {steps:#?}"))?;
                hits += u64::from(origin.asked == 0);
                let is_new = origin.asked > 0 && version == origin.versions[path];
                if !is_new && !origin.allows(path, language, version) {
                    return Err(format!("nothing allows {version}: {steps:#?}\n{:#?}", origin.words));
                }
            }
        }
        // What the cache does on its own account is done in between.
        for _ in 0..20 {
            yield_now().await;
        }
    }
    Ok(hits)
}

async fn ask<S, R>(service: &mut S, method: Method, path: usize, language: usize) -> (StatusCode, String)
where
    S: Service<Request<Full<Bytes>>, Response = Response<R>, Error = Infallible>,
    R: hyper::body::Body<Data = Bytes, Error: fmt::Debug>,
{
    let request = Request::builder().method(method).uri(PATHS[path]).header("host", HOST);
    let request = request.header("accept-language", LANGUAGES[language]).body(Full::default()).unwrap();
    let Ok(answer) = service.call(request).await;
    let status = answer.status();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}
