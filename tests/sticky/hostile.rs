//! Those who would choose their node.

use buttress::{
    cluster::Admin,
    rng::Rng,
    sticky::{Pins, Rejected, StickyCookie},
};
use hyper::StatusCode;
use proptest::prelude::*;

use crate::support::{Client, World, keys, send, shop};

const LETTERS: &[u8] = b"ABCxyz019-_=;, \"\x80\xff";

/// A world in which whoever is believed to belong to `a` gets a 503, and everybody else gets `b`.
fn trap() -> (World, Pins, String) {
    let world = World::new(["a", "b"]);
    let cookie = shop(&[1]).build().unwrap();
    let value = cookie.issue(&"a".into(), buttress::time::Clock::wall(&world.clock));
    world.cluster.set_admin("a", Admin::Down).unwrap();
    let pins = Pins::cookie(cookie, &world.cluster).strict();
    (world, pins, value)
}

#[tokio::test]
async fn the_trap_works() {
    let (world, pins, value) = trap();
    let stack = world.stack(&pins);
    let visit = send(&stack, [format!("__Host-shop={value}")]).await;
    assert_eq!(visit.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(send(&stack, [""; 0]).await.node, "b");
}

#[tokio::test]
async fn cookies_that_are_not_believed_steer_nothing_and_are_counted() {
    let (world, pins, value) = trap();
    let stack = world.stack(&pins);
    let now = buttress::time::Clock::wall(&world.clock);
    let other =
        |pool: &str, secret| StickyCookie::new(pool, keys(&[secret])).unwrap().issue(&"a".into(), now);
    let named = |value: &str| vec![format!("__Host-shop={value}")];
    let mut flipped = value.clone().into_bytes();
    flipped[59] = if flipped[59] == b'A' { b'B' } else { b'A' };
    let cases = [
        (named(""), Rejected::Malformed),
        (named("a"), Rejected::Malformed),
        (named(&value[1..]), Rejected::Malformed),
        (named(&format!("\"{value}\"")), Rejected::Malformed),
        (named(&"A".repeat(15_000)), Rejected::Malformed),
        (named(std::str::from_utf8(&flipped).unwrap()), Rejected::Forged),
        (named(&other("shop", 2)), Rejected::UnknownKey),
        (named(&other("blog", 1)), Rejected::ForeignPool),
        (vec![format!("__Host-shop={value}; __Host-shop={value}")], Rejected::Duplicated),
        (vec![format!("__Host-shop={value}"), "__Host-shop=x".into()], Rejected::Duplicated),
        (vec![format!("__Host-shop={value}"), "x=".repeat(8192)], Rejected::Oversized),
    ];
    for (lines, why) in cases {
        let before = pins.stats().rejected(why);
        let visit = send(&stack, &lines).await;
        assert_eq!((&*visit.node, visit.sets().len()), ("b", 1), "{why}");
        assert_eq!(pins.stats().rejected(why), before + 1, "{why}");
        assert!(world.node("b").cookies().iter().all(|line| !line.contains("shop")), "{why}");
    }
    let idle = {
        world.advance(60 * 60 + 1);
        send(&stack, named(&value)).await
    };
    assert_eq!((&*idle.node, pins.stats().rejected(Rejected::Idle)), ("b", 1));
}

#[tokio::test]
async fn names_that_only_look_alike_are_other_cookies() {
    let (world, pins, value) = trap();
    let stack = world.stack(&pins);
    for name in ["__host-shop", "__Host-Shop", "__Host-shop2", "x__Host-shop", "__Host-shop%20", "shop"] {
        let line = format!("{name}={value}");
        assert_eq!(send(&stack, [&line]).await.node, "b");
        assert_eq!(world.node("b").cookies(), [line], "passed on");
    }
    assert_eq!(pins.stats().rejected(Rejected::Malformed), 0);
}

#[tokio::test]
async fn none_of_10_000_mutated_requests_is_steered() {
    let (world, pins, value) = trap();
    let stack = world.stack(&pins);
    let mut rng = Rng::seeded(11);
    let honest = format!("a=1; __Host-shop={value}; b=2").into_bytes();
    for _ in 0..10_000 {
        let mut line = honest.clone();
        // Within the value, so that the rest cannot make it whole again.
        let from = 17 + rng.below(value.len());
        match rng.below(4) {
            0 => line[from] = LETTERS[rng.below(LETTERS.len())],
            1 => drop(line.remove(from)),
            2 => line.insert(from, LETTERS[rng.below(LETTERS.len())]),
            _ => line.swap(from, 17 + rng.below(value.len())),
        }
        if line == honest {
            continue;
        }
        // A pair that was pushed apart by a space or a semicolon at its very edge still is the honest one.
        let is_whole = line.windows(value.len()).any(|window| window == value.as_bytes());
        let visit = send(&stack, [&line]).await;
        assert!(is_whole || visit.node == "b", "{:?}", String::from_utf8_lossy(&line));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn no_lines_of_cookies_panic_or_steer(
        lines in prop::collection::vec(
            prop::collection::vec(
                prop_oneof![
                    "(__Host-shop|=|;| |\"|A[A-Za-z0-9_-]{59})",
                    "[\\x20-\\x7e\u{80}-\u{ff}]{0,20}",
                ],
                0..8,
            ),
            0..4,
        ),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (world, pins, _) = trap();
            let stack = world.stack(&pins);
            let mut client = Client::default();
            prop_assert_eq!(client.node(&stack).await, "b");
            let lines = lines.iter().map(|parts| parts.concat());
            prop_assert_eq!(send(&stack, lines).await.node, "b");
            Ok(())
        })?;
    }
}
