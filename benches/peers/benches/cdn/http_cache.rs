//! http-cache's layer, with all in memory.

use http_body_util::BodyExt;
use http_cache::MokaManager;
use http_cache_tower::HttpCacheLayer;
use tower::{Layer, Service};

use crate::hits::{request, service};

/// Asks the cache, which has it.
pub(crate) fn hit(size: usize) -> impl FnMut() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let mut cached = HttpCacheLayer::new(MokaManager::default()).layer(service(size));
    move || {
        runtime.block_on(async {
            let mut request = request();
            // It wants to know the host from the URL.
            *request.uri_mut() = hyper::Uri::from_static("http://www.example.com/assets/app.js?v=3");
            let answer = cached.call(request).await.expect("an answer");
            let body = answer.into_body().collect().await.expect("a body").to_bytes();
            assert_eq!(body.len(), size);
        });
    }
}
