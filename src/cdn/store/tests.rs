use std::{
    collections::HashMap,
    sync::atomic::Ordering::SeqCst,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{Request, Response};
use proptest::{collection::vec, prelude::*, sample::select};

use super::*;
use crate::{
    cdn::policy::{Moment, Policy},
    time::{Clock, ManualClock},
};

const URLS: [&str; 4] = ["http://a/x", "http://a/x/y", "http://b/x", "http://b/z?q"];
const TAGS: [&str; 3] = ["red", "green", "blue"];

fn now() -> Instant {
    Moment::now(&ManualClock::new()).instant
}

fn head(fields: &[(&'static str, &str)], request: &HeaderMap) -> Stored {
    let mut asked = Request::get("http://a/").body(()).unwrap().into_parts().0;
    asked.headers = request.clone();
    let mut answer = Response::builder().header("cache-control", "max-age=3600");
    for (name, value) in fields {
        answer = answer.header(*name, *value);
    }
    let answer = answer.body(()).unwrap().into_parts().0;
    let clock = ManualClock::new();
    let moment = Moment { instant: clock.now(), wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 30) };
    Policy::new().store(&asked, &answer, moment, moment).unwrap()
}

/// An object that varies by the field `x`, with a body that says which one it is.
fn object(id: u64, tags: &str, request: &HeaderMap) -> Object {
    let fields = [("vary", "x"), ("cache-tag", tags)];
    Object::new(head(&fields[..if tags.is_empty() { 1 } else { 2 }], request), body(id))
}

fn body(id: u64) -> Parts {
    Parts::whole([Bytes::from(id.to_string())])
}

fn id(object: &Object) -> u64 {
    let bytes: Vec<u8> =
        object.parts().unwrap().cursor(0..object.length().unwrap()).unwrap().flatten().collect();
    String::from_utf8(bytes).unwrap().parse().unwrap()
}

fn request(x: &str, cookie: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("x", x.parse().unwrap());
    if !cookie.is_empty() {
        headers.insert("cookie", format!("c={cookie}").parse().unwrap());
    }
    headers
}

fn key(store: &Store, url: &str, headers: &HeaderMap) -> Key {
    let mut parts = Request::get(url).body(()).unwrap().into_parts().0;
    parts.headers = headers.clone();
    store.keys().of(&parts).unwrap()
}

fn store(limits: Limits) -> Store {
    Store::new(limits, CacheKey::new().cookie("c"))
}

fn found(lookup: &Lookup) -> Option<(u64, bool)> {
    match lookup {
        Lookup::Found(object, mark) => Some((id(object), *mark == Mark::SoftPurged)),
        _ => None,
    }
}

/// What the store weighs as it should be, entry by entry.
fn weighed(store: &Store) -> u64 {
    store.shared.entries.iter().map(|(key, variants)| key.weight() + variants.weight()).sum()
}

/// Where something is stored: URL, cookie, field.
type Place = (usize, usize, usize);

#[derive(Clone, Debug)]
enum Step {
    Begin(Place),
    /// Of the fetches under way, counted from the last; with these tags.
    Commit(usize, Vec<usize>),
    /// Puts a new head before what is there.
    Renew(usize),
    Drop(usize),
    Look(Place),
    Invalidate(usize),
    Purge(What, bool),
    Sweep,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Url(usize),
    Prefix(&'static str),
    Tag(usize),
    All,
}

impl What {
    fn is_of(self, place: Place, tags: &[usize]) -> bool {
        match self {
            Self::Url(url) => url == place.0,
            Self::Prefix(prefix) if prefix.starts_with('/') => {
                URLS[place.0]["http://a".len()..].starts_with(prefix)
            }
            Self::Prefix(prefix) => URLS[place.0].starts_with(prefix),
            Self::Tag(tag) => tags.contains(&tag),
            Self::All => true,
        }
    }

    fn purge(self) -> Purge {
        match self {
            Self::Url(url) => Purge::url(URLS[url]).unwrap(),
            Self::Prefix(prefix) => Purge::prefix(prefix).unwrap(),
            Self::Tag(tag) => Purge::tag(TAGS[tag]).unwrap(),
            Self::All => Purge::all(),
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let place = || (0..URLS.len(), 0..2_usize, 0..2_usize);
    let what = prop_oneof![
        4 => (0..URLS.len()).prop_map(What::Url),
        4 => select(vec!["http://a", "http://a/x", "http://b/", "/x", "/x/"]).prop_map(What::Prefix),
        4 => (0..TAGS.len()).prop_map(What::Tag),
        1 => Just(What::All),
    ];
    prop_oneof![
        8 => place().prop_map(Step::Begin),
        8 => (0..4_usize, vec(0..TAGS.len(), 0..3)).prop_map(|(fetch, tags)| Step::Commit(fetch, tags)),
        3 => (0..4_usize).prop_map(Step::Renew),
        1 => (0..4_usize).prop_map(Step::Drop),
        12 => place().prop_map(Step::Look),
        2 => (0..URLS.len()).prop_map(Step::Invalidate),
        6 => (what, any::<bool>()).prop_map(|(what, soft)| Step::Purge(what, soft)),
        1 => Just(Step::Sweep),
    ]
}

/// What is stored, as a list and without haste.
#[derive(Default)]
struct Model {
    stored: HashMap<Place, (u64, Vec<usize>, bool)>,
    purges: Vec<(What, bool)>,
}

impl Model {
    fn purge(&mut self, what: What, soft: bool) {
        self.purges.push((what, soft));
        for (place, (_, tags, softened)) in &mut self.stored {
            *softened |= soft && what.is_of(*place, tags);
        }
        if !soft {
            self.stored.retain(|place, (_, tags, _)| !what.is_of(*place, tags));
        }
    }

    fn commit(&mut self, place: Place, began: usize, id: u64, tags: Vec<usize>) -> bool {
        let since = || self.purges[began..].iter().filter(|(what, _)| what.is_of(place, &tags));
        if since().any(|(_, soft)| !soft) {
            return false;
        }
        let softened = since().count() > 0;
        self.stored.insert(place, (id, tags, softened));
        true
    }
}

proptest! {
    #[test]
    fn any_history_is_that_of_a_plain_list(steps in vec(step(), 1..120)) {
        let store = store(Limits::default());
        let mut model = Model::default();
        let mut fetches: Vec<(Ticket, Place, usize)> = Vec::new();
        let at = |place: Place| {
            let headers = request(["1", "2"][place.2], ["", "v"][place.1]);
            (key(&store, URLS[place.0], &headers), headers)
        };
        for (step, id) in steps.into_iter().zip(0..) {
            match step {
                Step::Begin(place) => {
                    fetches.push((store.begin(&at(place).0), place, model.purges.len()));
                }
                Step::Commit(fetch, tags) if fetch < fetches.len() => {
                    let (ticket, place, began) = fetches.remove(fetches.len() - 1 - fetch);
                    let (key, headers) = at(place);
                    let names: Vec<_> = tags.iter().map(|tag| TAGS[*tag]).collect();
                    let object = object(id, &names.join(","), &headers);
                    let is_stored = store.commit(&ticket, &key, &headers, object).is_some();
                    prop_assert_eq!(is_stored, model.commit(place, began, id, tags));
                }
                Step::Renew(fetch) if fetch < fetches.len() => {
                    let (ticket, place, began) = fetches.remove(fetches.len() - 1 - fetch);
                    let (key, headers) = at(place);
                    let Lookup::Found(old, _) = store.lookup(&key, &headers, now()) else { continue };
                    let (id, tags, _) = model.stored[&place].clone();
                    let is_stored = store.renew(&ticket, &key, &old, old.stored().clone()).is_some();
                    prop_assert_eq!(is_stored, model.commit(place, began, id, tags));
                }
                Step::Drop(fetch) if fetch < fetches.len() => _ = fetches.swap_remove(fetch),
                Step::Commit(..) | Step::Renew(_) | Step::Drop(_) => {}
                Step::Look(place) => {
                    let (key, headers) = at(place);
                    let lookup = store.lookup(&key, &headers, now());
                    let expected = model.stored.get(&place).map(|(id, _, softened)| (*id, *softened));
                    prop_assert_eq!(found(&lookup), expected);
                }
                Step::Invalidate(url) => {
                    store.invalidate(&at((url, 0, 0)).0);
                    model.purge(What::Url(url), false);
                }
                Step::Purge(what, soft) => {
                    store.purge(&what.purge().with_soft(soft));
                    model.purge(what, soft);
                }
                Step::Sweep => _ = store.sweep(),
            }
            prop_assert_eq!(store.stats().weight, weighed(&store));
        }
        drop(fetches);
        prop_assert_eq!(store.shared.fetches.len(), 0);
    }
}

#[test]
fn whatever_was_fetched_before_a_purge_is_not_found_after_it() {
    let kinds = [What::Url(0), What::Prefix("http://a"), What::Prefix("/x"), What::Tag(0), What::All];
    for (what, cookie) in kinds.into_iter().flat_map(|what| [(what, ""), (what, "v")]) {
        let store = store(Limits::default());
        let headers = request("1", cookie);
        let key = key(&store, URLS[0], &headers);
        let (version, floor) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..300 {
                        let ticket = store.begin(&key);
                        let fetched = version.load(SeqCst);
                        store.commit(&ticket, &key, &headers, object(fetched, TAGS[0], &headers));
                    }
                });
                scope.spawn(|| {
                    for _ in 0..1000 {
                        let least = floor.load(SeqCst);
                        if let Some((id, _)) = found(&store.lookup(&key, &headers, now())) {
                            assert!(id >= least, "{id} of before the purge of {least}, {what:?}");
                        }
                    }
                });
            }
            scope.spawn(|| {
                for _ in 0..300 {
                    let next = version.fetch_add(1, SeqCst) + 1;
                    store.purge(&what.purge());
                    floor.store(next, SeqCst);
                }
            });
        });
        assert_eq!(store.shared.fetches.len(), 0);
    }
}

#[test]
fn a_soft_purge_is_not_forgotten_however_many_look_at_the_same_time() {
    let store = store(Limits::default());
    let headers = request("1", "");
    let key = key(&store, URLS[0], &headers);
    for _ in 0..200 {
        store.commit(&store.begin(&key), &key, &headers, object(1, "", &headers));
        std::thread::scope(|scope| {
            scope.spawn(|| store.purge(&Purge::tag("other").unwrap()));
            scope.spawn(|| store.purge(&Purge::url(URLS[0]).unwrap().soft()));
            scope.spawn(|| store.lookup(&key, &headers, now()));
        });
        assert_eq!(found(&store.lookup(&key, &headers, now())), Some((1, true)));
    }
}

#[test]
fn variants_of_a_key_are_bounded_and_the_one_unused_for_longest_leaves() {
    let store = store(Limits { variants: 3, ..Limits::default() });
    let put = |x: &str, id| {
        let headers = request(x, "");
        let key = key(&store, URLS[0], &headers);
        store.commit(&store.begin(&key), &key, &headers, object(id, "", &headers));
    };
    let look = |x: &str| {
        let headers = request(x, "");
        found(&store.lookup(&key(&store, URLS[0], &headers), &headers, now())).map(|(id, _)| id)
    };
    for id in 1..=3 {
        put(&id.to_string(), id);
    }
    assert_eq!(look("1"), Some(1));
    put("4", 4);
    assert_eq!([look("1"), look("2"), look("3"), look("4")], [Some(1), None, Some(3), Some(4)]);
    for id in 0..1000 {
        put(&format!("hostile{id}"), id);
    }
    let (_, variants) = store.shared.entries.iter().next().unwrap();
    assert_eq!((variants.0.len(), store.stats().urls), (3, 1));
}

#[test]
fn memory_is_bounded_by_weight_whatever_comes() {
    let memory = 64 << 10;
    let store = store(Limits { memory, ..Limits::default() });
    let headers = request("1", "");
    for n in 0..2000 {
        let key = key(&store, &format!("http://a/{n}"), &headers);
        let parts = Parts::whole([Bytes::from(vec![0; n * 7 % 5000])]);
        let object = Object::new(head(&[("etag", "\"a\"")], &headers), parts);
        store.commit(&store.begin(&key), &key, &headers, object);
        assert!(store.stats().weight <= memory);
    }
    assert_eq!(store.stats().weight, weighed(&store));
    assert!(store.stats().urls > 0);
}

#[test]
fn what_is_too_long_or_in_too_many_pieces_is_not_stored() {
    let store = store(Limits { object: 100, ranges: 3, ..Limits::default() });
    let headers = request("1", "");
    let key = key(&store, URLS[0], &headers);
    let put = |parts: Parts| {
        store.commit(&store.begin(&key), &key, &headers, Object::new(head(&[], &headers), parts)).is_some()
    };
    let part = |start, len: usize, length| Parts::part(start, [Bytes::from(vec![0; len])], length).unwrap();
    assert!(put(part(0, 100, Some(100))));
    assert!(!put(part(0, 101, Some(101))));
    assert!(!put(part(0, 10, Some(101))), "what it will be");
    assert!(!put(part(200, 101, None)), "what it is");
    let scattered =
        |n: u64| (1..n).fold(part(0, 1, None), |all, at| all.combine(&part(at * 2, 1, None)).unwrap());
    assert!(put(scattered(3)));
    assert!(!put(scattered(4)));
}

#[test]
fn a_key_that_is_not_shared_is_remembered_until_something_is_stored() {
    let store = store(Limits::default());
    let headers = request("1", "");
    let key = key(&store, URLS[0], &headers);
    let start = now();
    let look = |after| store.lookup(&key, &headers, start + Duration::from_secs(after));
    assert!(matches!(look(0), Lookup::UriMiss));
    store.uncacheable(&key, start + Duration::from_secs(10));
    assert!(matches!(look(9), Lookup::HitForMiss));
    assert!(matches!(look(10), Lookup::UriMiss));
    store.commit(&store.begin(&key), &key, &headers, object(1, "", &headers));
    assert!(matches!(look(0), Lookup::Found(..)));
    assert!(matches!(store.lookup(&key, &request("2", ""), start), Lookup::VaryMiss));
    store.uncacheable(&key, start + Duration::from_secs(10));
    store.purge(&Purge::url(URLS[0]).unwrap());
    assert!(matches!(look(0), Lookup::UriMiss));
}

#[test]
fn keys_that_are_not_shared_are_bounded() {
    let store = store(Limits { marks: 100, ..Limits::default() });
    let until = now() + Duration::from_secs(10);
    for n in 0..1000 {
        store.uncacheable(&key(&store, &format!("http://a/{n}"), &HeaderMap::new()), until);
    }
    assert!(store.shared.marks.len() <= 100);
}

#[test]
fn invalidations_by_clients_take_no_memory() {
    let store = store(Limits::default());
    let plain = key(&store, URLS[0], &request("1", ""));
    for _ in 0..1000 {
        store.invalidate(&plain);
    }
    assert_eq!(store.shared.purges.last(), 0, "nor does what is stored have to compare itself");
    assert_eq!(store.shared.fetches.len(), 0);
}

#[test]
fn a_purge_of_many_costs_one_note_and_what_is_purged_gives_its_memory_back() {
    let store = store(Limits { memory: u64::MAX, ..Limits::default() });
    let headers = request("1", "");
    let stored = head(&[("cache-tag", "all,shoes")], &headers);
    let keys: Vec<_> =
        (0..20_000).map(|n| key(&store, &format!("http://a/{n}"), &HeaderMap::new())).collect();
    for key in &keys {
        store.commit(&store.begin(key), key, &headers, Object::new(stored.clone(), body(1)));
    }
    store.purge(&Purge::tag("shoes").unwrap());
    assert_eq!(store.shared.purges.last(), 1);
    assert_eq!(store.stats().urls, 20_000, "nothing was touched");
    assert!(matches!(store.lookup(&keys[0], &headers, now()), Lookup::UriMiss));
    assert_eq!(store.stats().urls, 19_999, "what is met goes");
    assert_eq!(store.sweep(), 19_999);
    assert_eq!((store.stats().urls, store.stats().weight), (0, 0));
}

#[test]
fn what_was_replaced_or_purged_is_not_renewed() {
    let (request, url) = (request("1", ""), URLS[0]);
    for purge in [None, Some(Purge::url(url).unwrap()), Some(Purge::tag("red").unwrap())] {
        let store = store(Limits::default());
        let key = key(&store, url, &request);
        let ticket = store.begin(&key);
        let old = store.commit(&ticket, &key, &request, object(1, "red", &request)).unwrap();
        let expected = if let Some(purge) = &purge {
            // Between the look at what is stored and the request that validates it.
            store.purge(purge);
            None
        } else {
            store.commit(&ticket, &key, &request, object(2, "red", &request)).unwrap();
            Some((2, false))
        };
        let later = store.begin(&key);
        assert!(store.renew(&later, &key, &old, old.stored().clone()).is_none(), "{purge:?}");
        assert_eq!(found(&store.lookup(&key, &request, now())), expected, "{purge:?}");
    }
}
