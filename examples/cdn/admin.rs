//! The admin port: what the cache has done for all who reach it, and purges for those who know the token.

use axum::{Json, Router, http::header::CACHE_CONTROL, response::IntoResponse, routing::get};
use buttress::cdn::{Cdn, InvalidToken, PurgeService};
use serde_json::json;
use tokio::net::TcpListener;

pub(crate) fn router(cdn: &Cdn, token: &str) -> Result<Router, InvalidToken> {
    let purges = PurgeService::new(cdn, token)?;
    let cdn = cdn.clone();
    Ok(Router::new().route("/stats", get(async move || stats(&cdn))).fallback_service(purges))
}

pub(crate) async fn serve(listener: TcpListener, router: Router) {
    // It ends with the process.
    drop(axum::serve(listener, router).await);
}

fn stats(cdn: &Cdn) -> impl IntoResponse + use<> {
    let stats = cdn.stats();
    let asked = stats.hits + stats.stale + stats.revalidated + stats.misses + stats.collapsed;
    let stats = json!({
        "hits": stats.hits,
        "stale": stats.stale,
        "revalidated": stats.revalidated,
        "collapsed": stats.collapsed,
        "misses": stats.misses,
        "bypassed": stats.bypassed,
        // Of what the cache had a say in.
        "hit_ratio": (asked - stats.misses) as f64 / (asked.max(1)) as f64,
        "bytes_saved": stats.bytes_saved,
        "purges": stats.purges,
        "urls": stats.urls,
        "bytes": stats.weight,
    });
    ([(CACHE_CONTROL, "no-store")], Json(stats))
}
