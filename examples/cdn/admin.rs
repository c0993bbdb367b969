//! The admin port: what the cache has done, and purges.

use std::sync::Arc;

use buttress::cdn::Cdn;
use tokio::net::TcpListener;

pub(crate) async fn serve(listener: TcpListener, cdn: Cdn, token: String) {
    let _ = (listener, cdn, Arc::new(token));
}
