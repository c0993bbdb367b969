//! Tokens that live as long as their issuer says, kept until shortly before that.
//!
//! Each value brings its own time to live: `Keep::ttl`. The cache never returns one whose time is over, and its maintenance
//! gives the memory back, also while nobody asks. Run it with `cargo run --example per_entry_ttl`.

use std::{sync::Arc, time::Duration};

use buttress::cache::{Expiry, Keep, MemoryCache};
use tokio::time::{Instant, sleep};

/// A token is not used in its last moments, so that it does not expire on its way to the server.
const MARGIN: Duration = Duration::from_millis(50);

/// What an issuer answers.
struct Issued {
    token: Arc<str>,
    expires_in: Duration,
}

/// Stands for a request to an OAuth server: tokens for batch jobs live longer.
async fn issue(audience: &str) -> Issued {
    sleep(Duration::from_millis(20)).await;
    let expires_in = Duration::from_millis(if audience == "reports" { 1_000 } else { 300 });
    Issued { token: format!("token for {audience}").into(), expires_in }
}

#[derive(Clone)]
struct Tokens {
    cache: MemoryCache<String, Arc<str>>,
}

impl Tokens {
    fn new() -> Result<Self, Box<dyn std::error::Error>> {
        // No time to live of the cache's own. What is inserted together should not have to be fetched again together.
        let expiry = Expiry::new().jitter(0.1)?;
        let cache = MemoryCache::builder(10_000).expiry(expiry).build();
        // Ends by itself, with the last handle of the cache.
        tokio::spawn(cache.maintain());
        Ok(Self { cache })
    }

    async fn get(&self, audience: &str) -> Arc<str> {
        if let Some(token) = self.cache.get(audience) {
            return token;
        }
        let Issued { token, expires_in } = issue(audience).await;
        let ttl = expires_in.saturating_sub(MARGIN);
        // With no time left it is used this once, and not kept.
        self.cache.insert_with(audience.to_owned(), Arc::clone(&token), &Keep::new().ttl(ttl));
        token
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let tokens = Tokens::new()?;
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(1_200) {
        for audience in ["orders", "payments", "reports"] {
            tokens.get(audience).await;
        }
        sleep(Duration::from_millis(5)).await;
    }
    let stats = tokens.cache.stats();
    println!("{} lookups, {} tokens issued", stats.hits + stats.misses, stats.misses);

    sleep(Duration::from_millis(1_500)).await;
    println!("{} tokens in memory after a pause", tokens.cache.len());
    Ok(())
}
