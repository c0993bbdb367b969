//! A cache in front of a tower service: what is asked for most is answered from memory, and no key is fetched twice at once.
//! Time is paused, so sleeping takes none.
//!
//! `cargo run --example cache_layer`

use std::{
    error::Error,
    io,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress::{
    cache::{CacheLayer, MemoryCache},
    rng::Rng,
};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

#[derive(Clone, Debug)]
struct Request {
    page: usize,
    /// Whether whoever asks wants it from the source.
    fresh: bool,
}

#[derive(Clone, Debug)]
struct Response {
    body: Arc<str>,
    cacheable: bool,
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), Box<dyn Error>> {
    let rendered = Arc::new(AtomicU32::new(0));
    let render = {
        let rendered = Arc::clone(&rendered);
        service_fn(move |request: Request| {
            rendered.fetch_add(1, Relaxed);
            async move {
                tokio::time::sleep(Duration::from_millis(200)).await;
                let body = format!("page {}", request.page).into();
                Ok::<_, io::Error>(Response { body, cacheable: request.page != 13 })
            }
        })
    };
    // The application keeps a handle of the cache.
    let cache = MemoryCache::builder(100).ttl(Duration::from_secs(60)).build();
    let layer = CacheLayer::new(cache.clone(), |request: &Request| (!request.fresh).then_some(request.page))
        .keep(|response: &Response| response.cacheable);
    let mut pages = ServiceBuilder::new().layer(layer).service(render);

    // Ten seconds of traffic, four hundred requests a second; low numbers are popular.
    let mut rng = Rng::seeded(7);
    let mut answers = Vec::new();
    for _ in 0..4000 {
        let page = (200.0 * rng.unit().powi(4)) as usize;
        let request = Request { page, fresh: rng.below(1000) == 0 };
        answers.push(tokio::spawn(pages.ready().await?.call(request)));
        tokio::time::sleep(Duration::from_micros(2500)).await;
    }
    for answer in answers {
        assert!(answer.await??.body.starts_with("page"));
    }
    let stats = cache.stats();
    println!("4000 requests, {} pages rendered", rendered.load(Relaxed));
    println!(
        "{} hits, {} misses, {} pages kept, {} evicted",
        stats.hits, stats.misses, stats.len, stats.evicted
    );

    cache.remove(&0);
    pages.ready().await?.call(Request { page: 0, fresh: false }).await?;
    println!("{} rendered after one was removed", rendered.load(Relaxed));
    Ok(())
}
