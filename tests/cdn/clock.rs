//! Clocks that are set: ages run on one that is not.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use buttress::{
    cdn::Cdn,
    time::{Clock, ManualClock},
};

use crate::{
    message::Fields,
    stage::{End, Stage, request},
};

const DAY: i64 = 86400;

/// A clock whose time of day can be set.
#[derive(Clone, Debug, Default)]
struct Settable {
    clock: ManualClock,
    set: Arc<AtomicI64>,
}

impl Clock for Settable {
    fn now(&self) -> Instant {
        self.clock.now()
    }

    fn wall(&self) -> SystemTime {
        let set = self.set.load(Relaxed);
        let by = Duration::from_secs(set.unsigned_abs());
        if set < 0 { self.clock.wall() - by } else { self.clock.wall() + by }
    }
}

#[tokio::test]
async fn a_step_of_the_clock_neither_revives_nor_kills() {
    for step in [-DAY, DAY, -1000 * DAY] {
        let clock = Settable::default();
        let cdn = Cdn::builder(1 << 20).clock(clock.clone()).build();
        let mut stage = Stage::set(cdn, clock.clock.clone()).await;
        let get = || request("GET", "/", &Fields::default(), None);
        let date = httpdate::fmt_http_date(clock.wall());
        let answer = |body| {
            format!(
                "HTTP/1.1 200 OK\r\ndate: {date}\r\ncache-control: max-age=60\r\ncontent-length: 3\r\n\r\n{body}"
            )
        };
        let first = tokio::spawn(stage.ask(get()));
        stage.asked().await.reply(answer("one").into_bytes(), End::Stay);
        first.await.unwrap().unwrap();

        clock.set.store(step, Relaxed);
        clock.clock.advance(Duration::from_secs(10));
        let hit = stage.ask(get()).await.unwrap();
        assert_eq!(
            (hit.body.as_slice(), hit.fields.get("age")),
            (&b"one"[..], Some(b"10".to_vec())),
            "{step}"
        );

        clock.clock.advance(Duration::from_secs(51));
        let second = tokio::spawn(stage.ask(get()));
        stage.asked().await.reply(answer("two").into_bytes(), End::Stay);
        assert_eq!(second.await.unwrap().unwrap().body, b"two", "{step}");
    }
}
