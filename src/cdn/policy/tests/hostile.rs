//! Whatever comes: no panic, nothing stored that must not be, no age below what it is.

use proptest::{collection::vec, option, prelude::*, sample::select};

use super::*;

/// A value that a header may have: words of the grammar and any bytes, in any mix.
fn value() -> impl Strategy<Value = HeaderValue> {
    let words = select(vec![
        "max-age",
        "s-maxage",
        "no-cache",
        "no-store",
        "private",
        "public",
        "must-revalidate",
        "must-understand",
        "stale-while-revalidate",
        "stale-if-error",
        "=",
        "\"",
        "\\",
        ",",
        ";",
        " ",
        "\t",
        "-",
        "*",
        "W/",
        "bytes",
        "bytes=",
        "/",
        "q=0.5",
        "en",
        "gzip",
        "foo",
        "0",
        "1",
        "60",
        "2147483648",
        "18446744073709551615",
        "99999999999999999999999",
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "GMT",
        "http://a.example/",
        "//",
        "..",
        "?",
        "#",
        "?1",
        "(",
        ")",
        ":",
        "multipart/byteranges",
    ]);
    let piece = prop_oneof![
        4 => words.prop_map(|word| word.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..6),
    ];
    vec(piece, 0..10).prop_map(|pieces| {
        let allowed = |b: u8| if b == b'\t' || b >= b' ' && b != 127 { b } else { b | 0x80 };
        HeaderValue::from_bytes(&pieces.concat().into_iter().map(allowed).collect::<Vec<_>>()).unwrap()
    })
}

fn any_fields() -> impl Strategy<Value = HeaderMap> {
    let name = select(vec![
        "age",
        "authorization",
        "cache-control",
        "cache-tag",
        "cdn-cache-control",
        "connection",
        "content-language",
        "content-length",
        "content-location",
        "content-range",
        "content-type",
        "date",
        "etag",
        "expires",
        "foo",
        "host",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "last-modified",
        "location",
        "accept-language",
        "accept-encoding",
        "cookie",
        "pragma",
        "range",
        "set-cookie",
        "surrogate-control",
        "surrogate-key",
        "transfer-encoding",
        "vary",
        "upgrade",
    ]);
    vec((name, value()), 0..8).prop_map(|pairs| {
        let pairs = pairs.into_iter().map(|(name, value)| (HeaderName::from_static(name), value));
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, value);
        }
        headers
    })
}

fn any_request() -> impl Strategy<Value = request::Parts> {
    let method = select(vec!["GET", "GET", "GET", "HEAD", "POST", "X"]);
    let uri = select(vec!["/", "/a/b?c", "http://a.example/x", "*", "a.example:1"]);
    (method, uri, any_fields()).prop_map(|(method, uri, headers)| {
        let mut parts = request(method, uri, &[]);
        parts.headers = headers;
        parts
    })
}

fn any_response() -> impl Strategy<Value = response::Parts> {
    let status = prop_oneof![4 => Just(200), 2 => Just(206), 1 => Just(304), 2 => 100_u16..1000];
    (status, any_fields()).prop_map(|(status, headers)| {
        let mut parts = response(status, &[]);
        parts.headers = headers;
        parts
    })
}

/// A directive in letters of any case.
fn in_any_case(word: &'static str) -> impl Strategy<Value = String> {
    vec(any::<bool>(), word.len()).prop_map(move |upper| {
        let case = |(c, upper): (char, bool)| if upper { c.to_ascii_uppercase() } else { c };
        word.chars().zip(upper).map(case).collect()
    })
}

/// Members that hide nothing: at most one quote is left open in all of them.
fn innocent() -> impl Strategy<Value = Vec<u8>> {
    let sound = select(vec![
        "max-age=3600",
        "public",
        "s-maxage=60",
        "foo",
        "foo=\"a, b\"",
        "foo=\"\\\"\"",
        "\"x\"",
        "",
        " ",
        "must-understand2",
    ]);
    let bytes = vec((b' '..=255).prop_filter("separates", |b| !matches!(b, b',' | b'"' | 127)), 0..8);
    prop_oneof![sound.prop_map(|text| text.as_bytes().to_vec()), bytes]
}

/// Lines of `Cache-Control` with one member among others, which nothing but a well-formed quoted string could
/// hide.
fn lines_with(member: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<HeaderValue>> {
    let open = option::of(select(vec!["foo=\"", "foo=\"x", "\"", "foo\"bar", "foo=\"\\\""]));
    let parts = (vec(innocent(), 0..4), open, member, vec(innocent(), 0..4), any::<prop::sample::Index>());
    let line = parts.prop_map(|(before, open, member, after, at)| {
        let mut members = [before, vec![member], after].concat();
        if let Some(open) = open {
            members.insert(at.index(members.len() + 1), open.as_bytes().to_vec());
        }
        members.join(&b","[..])
    });
    let other = vec(innocent(), 0..3).prop_map(|members| members.join(&b","[..]));
    (vec(other, 0..2), line, any::<bool>()).prop_map(|(mut lines, line, is_first)| {
        lines.insert(if is_first { 0 } else { lines.len() }, line);
        lines.iter().map(|line| HeaderValue::from_bytes(line).unwrap()).collect()
    })
}

fn with_lines(lines: Vec<HeaderValue>, pairs: Fields) -> response::Parts {
    let mut response = ok(pairs);
    for line in lines {
        response.headers.append("cache-control", line);
    }
    response
}

/// What may follow a directive's name and still leave it what it is.
fn tail() -> impl Strategy<Value = Vec<u8>> {
    let tails = select(vec![
        "",
        "",
        " ",
        "\t",
        "=",
        "=1",
        "=\"a\"",
        "=\"a, b\"",
        ";a",
        " foo",
        "=a b",
        "/",
        "(",
        "\u{e4}",
        "=\u{ff}",
    ]);
    tails.prop_map(|tail| tail.as_bytes().to_vec())
}

fn member(word: &'static str) -> impl Strategy<Value = Vec<u8>> {
    (select(vec!["", " ", "\t ", "\u{e4}", ";", "=", "\u{2028}"]), in_any_case(word), tail())
        .prop_map(|(before, word, tail)| [before.as_bytes(), word.as_bytes(), &tail].concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn nothing_that_comes_makes_it_panic(
        asks in any_request(), answer in any_response(), later in any_request(), update in any_response(),
        delay in 0_u64..100, wait in any::<u32>(), length in any::<u64>(), ranges in any::<(u64, u64)>(),
    ) {
        let scene = Scene::new();
        let policy = &scene.policy;
        let sent = scene.now();
        scene.wait(delay);
        let _ = policy.invalidates(&asks, &answer);
        let _ = (policy.bypasses(&asks), policy.only_if_cached(&asks));
        let Ok(stored) = policy.store(&asks, &answer, sent, scene.now()) else { return Ok(()) };
        scene.wait(wait.into());
        let now = scene.now();
        let _ = (policy.reuse(&stored, &later, now), policy.reuse_purged(&stored, &later, now));
        let _ = policy.on_failure(&stored, &later, now, Failure::Unreachable);
        let _ = (stored.selects(&later.headers), stored.precondition(&later), stored.weight(), stored.ttl(now));
        let _ = (stored.range(&later, length), stored.range_of_unknown(&later));
        let (age, range) = (stored.age(now), ranges.0..ranges.1);
        for (_, headers) in [stored.head(age), stored.not_modified(age), stored.part_head(&range, Some(length), age), stored.unsatisfiable_head(length, age)] {
            prop_assert_eq!(headers.get_all("age").iter().count(), 1);
        }
        prop_assert!(stored.selects(&asks.headers), "a response is selected by its own request");
        let mut headers = later.headers.clone();
        let _ = (stored.make_conditional(&mut headers), stored.ask_for(&mut headers, &range));
        let _ = stored.validated_by(&update);
        let refreshed = policy.refresh(&stored, &later, &update, now, scene.now());
        let _ = policy.refresh_by_head(&stored, &later, &update, now, scene.now());
        let _ = policy.combine(&stored, &refreshed.stored);
        #[cfg(feature = "serde")]
        {
            let restored = Stored::from_record(stored.to_record(now), now).unwrap();
            prop_assert_eq!(restored.head(age), stored.head(age));
            prop_assert_eq!(restored.age(now), age);
            prop_assert_eq!(restored.selects(&later.headers), stored.selects(&later.headers));
            prop_assert_eq!(policy.reuse(&restored, &later, now), policy.reuse(&stored, &later, now));
        }
    }

    #[test]
    fn rfc9111_section_5_2_2_5_no_store_is_never_stored(lines in lines_with(member("no-store"))) {
        let scene = Scene::new();
        let stored = scene.store(&get(&[]), &with_lines(lines.clone(), &[("expires", &scene.date(60)), ("etag", "\"1\"")]));
        prop_assert!(stored.is_err(), "{lines:?}");
    }

    #[test]
    fn rfc9111_section_5_2_2_7_private_is_never_stored(lines in lines_with(member("private"))) {
        let scene = Scene::new();
        let stored = scene.store(&get(&[]), &with_lines(lines.clone(), &[("expires", &scene.date(60)), ("etag", "\"1\""), ("a", "secret"), ("b", "secret")]));
        // It may be about some fields, which are then left out.
        let is_safe = stored.is_err() || lines.iter().any(|line| line.as_bytes().windows(2).any(|two| two == b"=\"" || two == b"=1"));
        prop_assert!(is_safe, "{lines:?}");
        if let (Ok(stored), true) = (stored, lines.iter().any(|line| {
            let text = line.as_bytes().to_ascii_lowercase();
            text.windows(11).any(|part| part == b"private=\"a\"") || text.windows(14).any(|part| part == b"private=\"a, b\"")
        })) {
            prop_assert!(!stored.head(0).1.contains_key("a"), "{lines:?}");
        }
    }

    #[test]
    fn rfc9111_section_5_2_2_4_no_cache_is_never_used_unasked(lines in lines_with(member("no-cache")), wait in 0_u64..100) {
        let scene = Scene::new();
        let answer = with_lines(lines.clone(), &[("expires", &scene.date(60)), ("etag", "\"1\""), ("a", "secret")]);
        if let Ok(stored) = scene.store(&get(&[]), &answer) {
            let asks = get(&[("cache-control", "max-stale")]);
            let reuse = scene.policy.reuse(&stored, &asks, scene.wait(wait).now());
            let is_unqualified = !lines.iter().any(|line| line.as_bytes().windows(2).any(|two| two == b"=\"" || two == b"=1"));
            prop_assert!(matches!(reuse, Reuse::Validate(_)) || !is_unqualified, "{lines:?}");
        }
    }

    #[test]
    fn rfc9111_section_3_5_credentials_are_shared_only_if_a_word_says_so(lines in vec(value(), 0..3)) {
        let scene = Scene::new();
        let answer = with_lines(lines.clone(), &[("expires", &scene.date(60)), ("etag", "\"1\"")]);
        if scene.store(&get(&[("authorization", "x")]), &answer).is_ok() {
            let text: Vec<u8> = lines.iter().flat_map(|line| line.as_bytes().to_ascii_lowercase()).collect();
            let says = |word: &[u8]| text.windows(word.len()).any(|part| part == word);
            prop_assert!(says(b"public") || says(b"s-maxage=") || says(b"must-revalidate"), "{lines:?}");
        }
    }

    #[test]
    fn rfc9111_section_4_2_3_ages_only_grow_and_saturate(age in value(), date in value(), control in value(), waits in vec(any::<u32>(), 1..5)) {
        let scene = Scene::new();
        let mut answer = ok(&[("etag", "\"1\"")]);
        for (name, value) in [("age", age), ("date", date), ("cache-control", control)] {
            answer.headers.insert(name, value);
        }
        let Ok(stored) = scene.store(&get(&[]), &answer) else { return Ok(()) };
        let mut last = (stored.age(scene.now()), stored.ttl(scene.now()), stored.is_fresh(scene.now()));
        for wait in waits {
            let now = scene.wait(wait.into()).now();
            let next = (stored.age(now), stored.ttl(now), stored.is_fresh(now));
            prop_assert!(next.0 >= last.0 && next.1 <= last.1 && next.2 <= last.2);
            prop_assert_eq!(next.2, stored.lifetime > stored.current_age(now.instant));
            prop_assert!(next.0 <= 999_999_999_999_999 && next.1.abs() <= 999_999_999_999_999);
            last = next;
        }
    }

    /// Against the sentences of sections 4.2.4 and 5.2, spelled out again over plain numbers.
    #[test]
    fn rfc9111_section_4_a_cached_answer_is_one_at_an_allowed_age(
        max_age in 0_u64..50, s_maxage in option::of(0_u64..50), while_revalidate in option::of(0_u64..30), flags in any::<[bool; 4]>(),
        age in 0_u64..60, wait in 0_u64..60, asks_age in option::of(0_u64..90), min_fresh in option::of(0_u64..30), max_stale in option::of(0_u64..60), asks_anew in prop::bool::weighted(0.1),
    ) {
        let [must_revalidate, proxy_revalidate, no_cache, immutable] = flags;
        let scene = Scene::new();
        let join = |words: &[Option<String>]| words.iter().flatten().cloned().collect::<Vec<_>>().join(", ");
        let number = |name: &str, number: Option<u64>| number.map(|number| format!("{name}={number}"));
        let word = |name: &str, is_there: bool| is_there.then(|| name.to_owned());
        let control = join(&[number("max-age", Some(max_age)), number("s-maxage", s_maxage), number("stale-while-revalidate", while_revalidate),
            word("must-revalidate", must_revalidate), word("proxy-revalidate", proxy_revalidate), word("no-cache", no_cache), word("immutable", immutable)]);
        let asks = join(&[number("max-age", asks_age), number("min-fresh", min_fresh), number("max-stale", max_stale), word("no-cache", asks_anew)]);
        let stored = scene.stored(&[("cache-control", &control), ("age", &age.to_string()), ("etag", "\"1\"")]);
        let reuse = scene.wait(wait).reuse(&stored, &[("cache-control", &asks)]);
        let age = age + wait;
        let lifetime = s_maxage.unwrap_or(max_age);
        let suits = asks_age.is_none_or(|most| most > 0 && age <= most || most == 0 && immutable && lifetime > age)
            && min_fresh.is_none_or(|least| lifetime.saturating_sub(age) >= least);
        let may_be_stale = !must_revalidate && !proxy_revalidate;
        let staleness = age.saturating_sub(lifetime);
        match reuse {
            _ if no_cache || asks_anew => prop_assert!(matches!(reuse, Reuse::Validate(_))),
            Reuse::Fresh { age: told } => prop_assert!(told == age && lifetime > age && suits),
            Reuse::Stale { age: told, revalidate: true } => {
                prop_assert!(told == age && lifetime <= age && suits && may_be_stale && while_revalidate.is_some_and(|window| staleness <= window));
                prop_assert!(max_stale.is_some() || asks_age.is_none() && min_fresh.is_none());
            }
            Reuse::Stale { age: told, revalidate: false } => {
                prop_assert!(told == age && lifetime <= age && suits && may_be_stale && s_maxage.is_none() && max_stale.is_some_and(|most| staleness <= most));
            }
            Reuse::Validate(Why::Request) => prop_assert!(lifetime > age && !suits),
            Reuse::Validate(Why::Stale) => {
                prop_assert!(lifetime <= age);
                let is_allowed = max_stale.is_some_and(|most| staleness <= most) && s_maxage.is_none() && may_be_stale && suits;
                prop_assert!(!is_allowed);
            }
        }
    }
}
