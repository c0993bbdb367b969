//! Beside `http-cache-semantics`, on thousands of random requests and responses.
//!
//! Where a case has none of the quirks below, both must decide alike. A quirk is something on which the other
//! one is known to decide otherwise, with the text that settles who is right; each must be seen to make a
//! difference.

use std::collections::BTreeMap;

use fastrand::Rng;
use http_cache_semantics::{CacheOptions, CachePolicy};

use super::*;

type Pairs = Vec<(&'static str, String)>;

/// A response, the request that it answers, and another request some time later.
#[derive(Clone, Debug)]
struct Case {
    status: u16,
    first: Pairs,
    response: Pairs,
    wait: u64,
    later: Pairs,
    /// Directives of the response, which become one line.
    control: Vec<String>,
}

impl Case {
    fn control(&mut self, directive: impl Into<String>) {
        self.control.push(directive.into());
    }

    fn forget(&mut self, directives: &[&str]) {
        self.control.retain(|own| !directives.iter().any(|name| own.starts_with(name)));
    }

    fn set(&mut self, name: &'static str, value: impl Into<String>) {
        self.response.retain(|(own, _)| *own != name);
        self.response.push((name, value.into()));
    }

    fn answer(&self) -> response::Parts {
        let mut pairs: Vec<_> = self.response.iter().map(|(name, value)| (*name, &**value)).collect();
        let control = self.control.join(", ");
        if !control.is_empty() {
            pairs.push(("cache-control", &control));
        }
        response(self.status, &pairs)
    }

    /// Whether the second request is answered without asking the origin: by us, and by the other.
    fn decide(&self) -> (bool, bool) {
        let policy = Policy::new().heuristics(10, Duration::MAX);
        let scene = Scene::with(policy);
        let pairs =
            |pairs: &Pairs| get(&pairs.iter().map(|(name, value)| (*name, &**value)).collect::<Vec<_>>());
        let (first, later, answer) = (pairs(&self.first), pairs(&self.later), self.answer());
        let stored = scene.store(&first, &answer);
        let theirs = CachePolicy::new_options(&first, &answer, scene.now().wall, CacheOptions::default());
        scene.wait(self.wait);
        let ours = stored.is_ok_and(|stored| {
            stored.selects(&later.headers)
                && !matches!(scene.policy.reuse(&stored, &later, scene.now()), Reuse::Validate(_))
        });
        let theirs = theirs.is_storable()
            && theirs.before_request(&later, scene.now().wall).satisfies_without_revalidation();
        (ours, theirs)
    }
}

/// A case on which both should agree.
fn plain(rng: &mut Rng, scene: &Scene) -> Case {
    let statuses = [200, 200, 200, 200, 203, 204, 300, 301, 302, 303, 307, 308, 404, 405, 410, 414, 501];
    let mut case = Case {
        status: rng.choice(statuses).unwrap(),
        first: Vec::new(),
        response: vec![("etag", "\"1\"".into())],
        wait: rng.u64(0..100),
        later: Vec::new(),
        control: Vec::new(),
    };
    let few = |rng: &mut Rng| rng.u64(0..100);
    let mut age = 0;
    if rng.bool() {
        age = few(rng);
        case.response.push(("age", age.to_string()));
    }
    if rng.bool() {
        // Not older than Age says.
        let seconds = rng.i64(-age.cast_signed()..50);
        case.response.push(("date", scene.date(seconds)));
    }
    if rng.u8(..3) == 0 {
        case.response
            .push(("expires", if rng.u8(..5) == 0 { "0".into() } else { scene.date(rng.i64(-50..200)) }));
    }
    if rng.bool() {
        case.response.push(("last-modified", scene.date(rng.i64(-2000..50))));
    }
    for (odds, directive) in [
        (2, format!("max-age={}", few(rng) * 2)),
        (4, format!("s-maxage={}", few(rng) * 2)),
        (3, "public".into()),
        (5, "must-revalidate".into()),
        (9, "no-cache".into()),
        (12, "no-store".into()),
        (12, "private".into()),
        (4, "foo=bar".into()),
        (9, "max-age=\"50\"".into()),
        (30, "max-age=-1".into()),
        (30, "max-age=5.5".into()),
    ] {
        let name = directive.split('=').next().unwrap_or_default();
        if rng.u8(..odds) == 0 && !case.control.iter().any(|own| own.starts_with(name)) {
            case.control(directive);
        }
    }
    rng.shuffle(&mut case.control);
    if rng.u8(..6) == 0 {
        case.first.push(("authorization", "x".into()));
    }
    if rng.u8(..3) == 0 {
        case.response.push(("vary", "foo".into()));
        for asks in [&mut case.first, &mut case.later] {
            asks.extend(rng.bool().then(|| ("foo", rng.u8(0..2).to_string())));
        }
    }
    let asks = match rng.u8(..12) {
        0 => "no-cache".into(),
        1 => format!("max-age={}", few(rng)),
        2 => format!("min-fresh={}", few(rng)),
        3 if !case.control.iter().any(|own| own.starts_with("s-maxage") || own.starts_with("no-cache")) => {
            "max-stale".into()
        }
        _ => String::new(),
    };
    if !asks.is_empty() {
        case.later.push(("cache-control", asks));
    }
    case
}

/// What we do where the two differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Answer from the cache where the other does not.
    More,
    /// The reverse.
    Less,
    /// Either, as the case may be.
    Both,
}

/// What it is, which way it goes, the text that settles it, and how to bring it about.
type Quirk = (&'static str, Way, &'static str, fn(&mut Case, &mut Rng, &Scene));

/// What the other one decides otherwise on, why it should not, and how to bring it about.
const QUIRKS: [Quirk; 26] = [
    (
        "case",
        Way::Both,
        "9111 5.2: directives are identified by a token, to be compared case-insensitively",
        |case, rng, _| {
            for directive in &mut case.control {
                if rng.bool() {
                    *directive = directive.to_uppercase();
                }
            }
        },
    ),
    ("quoted comma", Way::Less, "9110 5.6.4: a quoted-string is a single value", |case, _, _| {
        case.forget(&["max-age", "s-maxage"]);
        case.control("ext=\"a, max-age=3600\"");
    }),
    (
        "non-ASCII",
        Way::Both,
        "9110 5.5: obs-text is opaque data, which makes the directives beside it no less",
        |case, _, _| {
            case.control("ext=\u{e4}");
        },
    ),
    (
        "apparent age",
        Way::Less,
        "9111 4.2.3: corrected_initial_age = max(apparent_age, corrected_age_value)",
        |case, rng, scene| {
            case.set("date", scene.date(-rng.i64(50..200)));
        },
    ),
    (
        "lines of a selecting field",
        Way::Less,
        "9110 5.3: several lines of a field are one list",
        |case, _, _| {
            case.set("vary", "foo");
            for asks in [&mut case.first, &mut case.later] {
                asks.retain(|(name, _)| *name != "foo");
                asks.push(("foo", "1".into()));
            }
            case.later.push(("foo", "2".into()));
        },
    ),
    ("list in Age", Way::Less, "9111 5.1: use the first member", |case, rng, _| {
        case.set("age", format!("{}, 0", rng.u8(..)));
    }),
    ("huge Age", Way::Less, "9111 1.2.2: greater values count as the greatest", |case, _, _| {
        case.set("age", "18446744073709551616");
    }),
    ("huge max-age", Way::More, "9111 1.2.2: greater values count as the greatest", |case, _, _| {
        case.forget(&["max-age"]);
        case.control("max-age=18446744073709551616");
    }),
    (
        "max-stale against no-cache",
        Way::Less,
        "9111 5.2.2.4: must not be used without successful validation",
        |case, _, _| {
            case.forget(&["no-cache"]);
            case.control("no-cache");
            case.later = vec![("cache-control", "max-stale".into())];
        },
    ),
    (
        "max-stale against s-maxage",
        Way::Less,
        "9111 5.2.2.10: s-maxage incorporates the semantics of proxy-revalidate",
        |case, _, _| {
            case.forget(&["s-maxage"]);
            case.control("s-maxage=7");
            case.later = vec![("cache-control", "max-stale".into())];
        },
    ),
    (
        "limit of max-stale",
        Way::More,
        "9111 5.2.1.2: by no more than the specified number of seconds",
        |case, _, _| {
            *case = Case {
                control: vec!["max-age=10".into()],
                response: Vec::new(),
                first: Vec::new(),
                status: 200,
                ..case.clone()
            };
            case.wait = 15;
            case.later = vec![("cache-control", "max-stale=5".into())];
        },
    ),
    ("immutable", Way::Less, "8246 2: it is about the freshness lifetime, and gives none", |case, _, _| {
        case.control("immutable");
    }),
    ("proxy-revalidate", Way::Both, "9111 5.2.2.8: once the response has become stale", |case, _, _| {
        case.control("proxy-revalidate");
    }),
    ("Set-Cookie", Way::Both, "9111 7.3: does not inhibit caching", |case, _, _| {
        case.set("set-cookie", "a=b");
    }),
    ("status", Way::More, "9111 3: the response status code is final", |case, rng, _| {
        case.status = rng.choice([299, 403, 451, 500, 599]).unwrap();
    }),
    ("must-understand", Way::More, "9111 5.2.2.3: ignore the no-store directive", |case, _, _| {
        case.forget(&["no-store"]);
        case.control("no-store");
        case.control("must-understand");
    }),
    (
        "stale-while-revalidate",
        Way::More,
        "5861 3: caches may serve the response after it becomes stale",
        |case, _, _| {
            case.control("stale-while-revalidate=60");
        },
    ),
    ("CDN-Cache-Control", Way::Both, "9213 2.2: must ignore Cache-Control and Expires", |case, rng, _| {
        case.set("cdn-cache-control", rng.choice(["max-age=60", "no-store", "max-age=1"]).unwrap());
    }),
    (
        "Surrogate-Control",
        Way::Both,
        "Edge Architecture 2: overrides Cache-Control in surrogates",
        |case, rng, _| {
            case.set("surrogate-control", rng.choice(["max-age=60", "no-store"]).unwrap());
        },
    ),
    (
        "Pragma of a response",
        Way::More,
        "9111 5.4: Pragma was defined for requests; its meaning in responses was never specified",
        |case, _, _| {
            case.set("pragma", "no-cache");
        },
    ),
    (
        "Pragma of a request",
        Way::More,
        "9111 5.4: ignored where Cache-Control is, and it is a token",
        |case, rng, _| {
            case.later.push(("pragma", rng.choice(["no-cache", "x-no-cache"]).unwrap().into()));
            if !case.later.iter().any(|(name, _)| *name == "cache-control") {
                case.later.push(("cache-control", "x".into()));
            }
        },
    ),
    ("RFC 850 date", Way::More, "9110 5.6.7: a recipient must accept all three formats", |case, _, _| {
        case.set("expires", "Thursday, 18-Aug-50 02:01:18 GMT");
    }),
    (
        "times that differ",
        Way::Both,
        "9111 4.2.1: use the first or consider the response stale",
        |case, rng, _| {
            case.control(format!("max-age={}", rng.u8(100..)));
        },
    ),
    ("private for some fields", Way::More, "9111 5.2.2.7: may store the rest", |case, _, _| {
        case.forget(&["private"]);
        case.control("private=\"x\"");
    }),
    ("no-cache for some fields", Way::More, "9111 5.2.2.4: only the listed fields", |case, _, _| {
        case.forget(&["no-cache"]);
        case.control("no-cache=\"x\"");
    }),
    (
        "whitespace in Vary's fields",
        Way::More,
        "9111 4.1: adding or removing whitespace, where allowed",
        |case, _, _| {
            case.set("vary", "foo");
            for asks in [&mut case.first, &mut case.later] {
                asks.retain(|(name, _)| *name != "foo");
            }
            case.first.push(("foo", "1,2".into()));
            case.later.push(("foo", "1, 2".into()));
        },
    ),
];

#[test]
fn rfc9111_both_engines_agree_but_where_the_text_says_who_is_right() {
    let scene = Scene::new();
    let mut rng = Rng::with_seed(9111);
    let mut served = 0;
    let mut seen: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    for _ in 0..12_000 {
        let mut case = plain(&mut rng, &scene);
        let (ours, theirs) = case.decide();
        assert_eq!(ours, theirs, "{case:?}");
        served += u32::from(ours);
        let (quirk, _, _, apply) = rng.choice(QUIRKS).unwrap();
        apply(&mut case, &mut rng, &scene);
        let (ours, theirs) = case.decide();
        let (more, less) = seen.entry(quirk).or_default();
        *more += u32::from(ours && !theirs);
        *less += u32::from(!ours && theirs);
    }
    assert!((2_000..10_000).contains(&served), "{served}");
    for (quirk, expected, text, _) in QUIRKS {
        let way = match seen[quirk] {
            (0, 0) => panic!("{quirk} makes no difference"),
            (_, 0) => Way::More,
            (0, _) => Way::Less,
            _ => Way::Both,
        };
        assert_eq!(way, expected, "{quirk} ({text}): {:?}", seen[quirk]);
    }
}
