//! The task that hears what other nodes change.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{Weak, atomic::Ordering::Relaxed},
    time::Duration,
};

use ::redis::{RedisResult, aio::PubSub};
use futures_core::Stream;
use serde::de::DeserializeOwned;
use tokio::{
    sync::broadcast,
    time::{sleep, timeout},
};

use super::{LONGEST_KEY, Shared, message};
use crate::cache::tier::Notice;

/// How long connecting and subscribing, or the answer to a ping, may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// When nothing was heard for so long, the server is asked whether it is there.
const SILENCE: Duration = Duration::from_secs(2);
/// Between two attempts to connect; half of it is random.
const PAUSE: Duration = Duration::from_millis(500);

/// Runs as long as the tier exists.
pub(super) async fn run<K>(shared: Weak<Shared>, notices: broadcast::Sender<Notice<K>>)
where
    K: DeserializeOwned + Clone + Send + 'static,
{
    while let Some((client, channel)) = shared.upgrade().map(|it| (it.link.client().clone(), it.channel())) {
        let subscribe = async {
            let mut connection = client.get_async_pubsub().await?;
            connection.subscribe(&channel).await?;
            RedisResult::Ok(connection)
        };
        if let Ok(Ok(connection)) = timeout(PATIENCE, subscribe).await {
            if let Some(shared) = shared.upgrade() {
                shared.subscriptions.fetch_add(1, Relaxed);
                shared.is_subscribed.store(true, Relaxed);
            }
            // After the subscription holds: what changes from here on is heard, what changed before may have been missed.
            let _ = notices.send(Notice::Resumed);
            listen(connection, &shared, &notices).await;
            if let Some(shared) = shared.upgrade() {
                shared.is_subscribed.store(false, Relaxed);
            }
        }
        sleep(PAUSE.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
    }
}

/// Passes messages on until the connection is lost.
async fn listen<K>(connection: PubSub, shared: &Weak<Shared>, notices: &broadcast::Sender<Notice<K>>)
where
    K: DeserializeOwned + Clone,
{
    let (mut sink, mut stream) = connection.split();
    loop {
        let next = poll_fn(|cx| Pin::new(&mut stream).poll_next(cx));
        let Ok(next) = timeout(SILENCE, next).await else {
            // A connection may be dead without anybody saying so.
            match timeout(PATIENCE, sink.ping::<::redis::Value>()).await {
                Ok(Ok(_)) => continue,
                _ => return,
            }
        };
        let Some(message) = next else { return };
        let Some(shared) = shared.upgrade() else { return };
        match message::read(message.get_payload_bytes(), shared.origin, LONGEST_KEY) {
            Ok(Some(notice)) => {
                shared.heard.fetch_add(1, Relaxed);
                let _ = notices.send(notice);
            }
            Ok(None) => {}
            Err(message::Malformed) => {
                shared.malformed.fetch_add(1, Relaxed);
            }
        }
    }
}
