use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::rng::Rng;

const START: Duration = Duration::from_secs(1_700_000_000);
const HOUR: u64 = 60 * 60;

/// So many seconds after the start.
fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + START + Duration::from_secs(seconds)
}

fn keys(secrets: &[u8]) -> CookieKeys {
    CookieKeys::new(secrets.iter().map(|secret| [*secret; 32])).unwrap()
}

fn cookie(secrets: &[u8]) -> StickyCookie {
    StickyCookie::new("shop", keys(secrets)).unwrap()
}

fn leads_to(cookie: &StickyCookie, pin: Pin, node: &str) -> bool {
    cookie.tags(&node.into()).any(|tag| tag == pin.node())
}

#[test]
fn a_cookie_leads_back_to_its_node_and_to_no_other() {
    let cookie = cookie(&[1]);
    let value = cookie.issue(&"a".into(), at(0));
    let pin = cookie.verify(value.as_bytes(), at(0)).unwrap();
    assert!(leads_to(&cookie, pin, "a"));
    assert!(!leads_to(&cookie, pin, "b"));
    assert!(!pin.is_due());
}

#[test]
fn a_cookie_tells_nothing_of_its_node() {
    let ids = ["10.0.0.7:8080", "a"];
    for id in ids {
        let value = cookie(&[1]).issue(&id.into(), at(0));
        let bytes: [u8; COOKIE] = base64::decode(value.as_bytes()).unwrap();
        assert_eq!(value.len(), 60, "as long for every node");
        assert!(!bytes.windows(4).any(|window| id.as_bytes().starts_with(window)));
    }
    // A tag depends on the key and on the pool: neither alone leads from one to the other.
    let other_pool = StickyCookie::new("blog", keys(&[1])).unwrap();
    let id = "a".into();
    let tags = [cookie(&[1]), cookie(&[2]), other_pool].map(|cookie| cookie.tags(&id).next().unwrap());
    assert_eq!(HashSet::from(tags).len(), 3);
    let shifted = |pool: &str, node: &str| {
        StickyCookie::new(pool, keys(&[1])).unwrap().tags(&node.into()).next().unwrap()
    };
    assert_ne!(shifted("ab", "c"), shifted("a", "bc"));
}

/// As computed by Python's `hmac` from the description of the format.
#[test]
fn the_format_is_fixed() {
    let value = cookie(&[1]).issue(&"a".into(), at(0));
    assert_eq!(
        value, "Acxu-4cEAfUVhuewK7SUn8oAAAAAZVPxAAAAAAAZBq_NwrLrM6XkpUvdvF07",
        "cookies in browsers must stay valid"
    );
}

#[test]
fn rotation_costs_no_pin() {
    let (old, new) = (1, 2);
    let steps: [&[u8]; 4] = [&[old], &[old, new], &[new, old], &[new]];
    // At each step, some proxies are one ahead.
    for (step, next) in steps.iter().zip(&steps[1..]) {
        for (issuer, reader) in [(step, next), (next, step)] {
            let value = cookie(issuer).issue(&"a".into(), at(0));
            let reader = cookie(reader);
            let pin = reader.verify(value.as_bytes(), at(HOUR)).unwrap();
            assert!(leads_to(&reader, pin, "a"), "{issuer:?}");
        }
    }
    let value = cookie(&[old]).issue(&"a".into(), at(0));
    assert_eq!(cookie(&[new]).verify(value.as_bytes(), at(0)), Err(Rejected::UnknownKey));
}

#[test]
fn another_pool_with_the_same_keys_is_foreign() {
    let value = cookie(&[1]).issue(&"a".into(), at(0));
    let blog = StickyCookie::builder("blog", keys(&[1])).name("__Host-shop").build().unwrap();
    assert_eq!(blog.verify(value.as_bytes(), at(0)), Err(Rejected::ForeignPool));
}

#[test]
fn a_cookie_expires_when_idle_and_when_old() {
    let limits = StickyCookie::builder("shop", keys(&[1]))
        .max_idle(Duration::from_secs(100))
        .max_life(Duration::from_secs(250));
    let cookie = limits.build().unwrap();
    let id = "a".into();
    let first = cookie.issue(&id, at(0));
    let verify = |value: &str, second| cookie.verify(value.as_bytes(), at(second));

    assert!(!verify(&first, 50).unwrap().is_due());
    assert!(verify(&first, 51).unwrap().is_due());
    assert!(verify(&first, 100).is_ok());
    assert_eq!(verify(&first, 101), Err(Rejected::Idle));

    let second = cookie.renew(&id, &verify(&first, 100).unwrap(), at(100));
    assert!(!verify(&second, 100).unwrap().is_due());
    let third = cookie.renew(&id, &verify(&second, 200).unwrap(), at(200));
    assert!(verify(&third, 250).is_ok());
    assert_eq!(verify(&third, 251), Err(Rejected::Aged), "a life is counted from the first");
}

#[test]
fn clocks_may_be_a_minute_apart() {
    let cookie = cookie(&[1]);
    let id = "a".into();
    let ahead = cookie.issue(&id, at(60));
    assert!(!cookie.verify(ahead.as_bytes(), at(0)).unwrap().is_due());
    let far_ahead = cookie.issue(&id, at(61));
    assert_eq!(cookie.verify(far_ahead.as_bytes(), at(0)), Err(Rejected::FutureDated));
    // Renewed by one that is far ahead.
    let pin = cookie.verify(ahead.as_bytes(), at(60)).unwrap();
    let renewed = cookie.renew(&id, &pin, at(1000));
    assert_eq!(cookie.verify(renewed.as_bytes(), at(900)), Err(Rejected::FutureDated));
}

#[test]
fn odd_times_and_limits_are_survived() {
    let endless = StickyCookie::builder("shop", keys(&[1])).max_idle(Duration::MAX).max_life(Duration::MAX);
    let endless = endless.build().unwrap();
    let id = "a".into();
    let before_the_epoch = SystemTime::UNIX_EPOCH - Duration::from_secs(5);
    let value = endless.issue(&id, before_the_epoch);
    let pin = endless.verify(value.as_bytes(), before_the_epoch).unwrap();
    // 136 years later, and more.
    let late = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40);
    assert!(!endless.verify(value.as_bytes(), late).unwrap().is_due());
    let renewed = endless.renew(&id, &pin, late);
    assert!(endless.verify(renewed.as_bytes(), late).is_ok());

    let brief = StickyCookie::builder("shop", keys(&[1])).max_idle(Duration::ZERO).build().unwrap();
    let value = brief.issue(&id, at(0));
    assert!(brief.verify(value.as_bytes(), at(1)).is_ok());
    assert_eq!(brief.verify(value.as_bytes(), at(2)), Err(Rejected::Idle));
}

#[test]
fn debug_shows_no_secret() {
    let shown = format!("{:?}", cookie(b"S"));
    assert!(shown.contains("__Host-shop") && !shown.contains("SSSS") && !shown.contains("83"), "{shown}");
}

/// Any change to what was issued.
fn mutate(rng: &mut Rng, value: &mut Vec<u8>, other: &[u8]) {
    match rng.below(8) {
        // One letter becomes another.
        0 | 1 => {
            let at = rng.below(value.len());
            let letter = rng.below(62) + 33;
            value[at] = u8::try_from(letter).unwrap();
        }
        // One bit, or several, of what the letters stand for.
        2..=4 => {
            let mut bytes: [u8; COOKIE] = base64::decode(value).unwrap();
            for _ in 0..=rng.below(3) {
                let bit = rng.below(COOKIE * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            *value = base64::encode(&bytes).into_bytes();
        }
        // The beginning of one cookie and the end of another.
        5 => {
            let at = rng.below(value.len());
            value.truncate(at);
            value.extend_from_slice(&other[at..]);
        }
        6 => value.truncate(rng.below(value.len())),
        _ => value.push(b'A'),
    }
}

/// How many of so many mutated cookies are believed.
fn believed(count: usize) -> usize {
    let halves = [7, 8].map(|seed| std::thread::spawn(move || believed_of(count / 2, Rng::seeded(seed))));
    halves.into_iter().map(|half| half.join().unwrap()).sum()
}

fn believed_of(count: usize, mut rng: Rng) -> usize {
    let cookie = cookie(&[1, 2]);
    let pairs: Vec<_> = (0..64)
        .map(|n| {
            let issuer = if n % 2 == 0 { &cookie } else { &self::cookie(&[2]) };
            let issue = |n: u64| issuer.issue(&format!("node-{n}").into(), at(n)).into_bytes();
            (issue(n), issue(n + 64))
        })
        .collect();
    let mut believed = 0;
    for (value, other) in pairs.iter().cycle().take(count) {
        let mut forged = value.clone();
        mutate(&mut rng, &mut forged, other);
        if forged != *value && forged != *other && cookie.verify(&forged, at(200)).is_ok() {
            believed += 1;
        }
    }
    believed
}

#[test]
fn none_of_a_million_mutated_cookies_is_believed() {
    assert_eq!(believed(1_000_000), 0);
}

#[test]
#[ignore = "takes 5 s, optimized: cargo test --release --all-features --lib mutated -- --ignored"]
fn none_of_10_million_mutated_cookies_is_believed() {
    assert_eq!(believed(10_000_000), 0);
}

proptest! {
    #[test]
    fn no_bytes_are_believed_or_panic(bytes in prop::collection::vec(any::<u8>(), 0..100), now: u32) {
        prop_assert!(cookie(&[1, 2]).verify(&bytes, at(u64::from(now))).is_err());
    }

    #[test]
    fn text_in_the_alphabet_is_not_believed(text in "A[A-Za-z0-9_-]{59}") {
        prop_assert!(cookie(&[1]).verify(text.as_bytes(), at(0)).is_err());
    }

    /// A pin is believed exactly within its limits.
    #[test]
    fn limits_are_exact(idle in 1_u64..1000, life in 1_u64..1000, renewed in 0_u64..1000, asked in 0_u64..2000) {
        let cookie = StickyCookie::builder("shop", keys(&[1]))
            .max_idle(Duration::from_secs(idle))
            .max_life(Duration::from_secs(life))
            .build()
            .unwrap();
        let id = "a".into();
        let first = cookie.verify(cookie.issue(&id, at(0)).as_bytes(), at(0)).unwrap();
        let value = cookie.renew(&id, &first, at(renewed));
        let expected = if renewed > asked + SKEW {
            Err(Rejected::FutureDated)
        } else if asked > life {
            Err(Rejected::Aged)
        } else if asked.saturating_sub(renewed) > idle {
            Err(Rejected::Idle)
        } else {
            Ok(asked.saturating_sub(renewed) > idle / 2)
        };
        prop_assert_eq!(cookie.verify(value.as_bytes(), at(asked)).map(|pin| pin.is_due()), expected);
    }
}
