//! The admin port: how the gateway is doing, and where its requests go.
//!
//! | request | does |
//! |---|---|
//! | `GET /healthz` | answers 200 while the gateway runs |
//! | `GET /status` | tells of each node, as JSON |
//! | `PUT /nodes/ID` | changes a node, or adds one if there is a `url`: `{"admin": "draining", "weight": 2}` |
//! | `DELETE /nodes/ID` | takes a node out; what it has in flight goes on |
//!
//! It asks nobody who they are: it belongs on loopback, where it is unless told otherwise, or behind something that does.

use std::sync::{Arc, Mutex, PoisonError};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::{get, put},
};
use buttress::{
    cluster::{Admin, Cluster, Node, NodeId},
    forward::{Upstream, UpstreamBuilder},
};
use serde::Deserialize;
use tokio::net::TcpListener;

use crate::{
    config::{BaseUrl, Config},
    status::Status,
};

/// The nodes, for changing them.
pub(crate) struct Nodes {
    cluster: Cluster<Upstream>,
    upstreams: UpstreamBuilder,
    /// Held from the look at a node to its change.
    one_at_a_time: Mutex<()>,
}

/// What a node shall be from now on. Absent is as it was.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeChange {
    url: Option<BaseUrl>,
    admin: Option<Admin>,
    weight: Option<u16>,
    zone: Option<String>,
    priority: Option<u8>,
    /// 0 is no limit.
    max_in_flight: Option<u32>,
}

/// An answer that says what is wrong.
type Refusal = (StatusCode, String);

pub(crate) async fn serve(listener: TcpListener, nodes: Nodes, status: Arc<Status>) {
    let app = Router::new()
        .route("/nodes/{id}", put(change).delete(remove))
        .with_state(Arc::new(nodes))
        .route("/status", get(async move || Json(status.snapshot())))
        .route("/healthz", get("ok\n"));
    // Never ends: axum waits when the system has no more sockets.
    drop(axum::serve(listener, app).await);
}

async fn change(
    State(nodes): State<Arc<Nodes>>,
    Path(id): Path<String>,
    body: String,
) -> Result<StatusCode, Refusal> {
    let change =
        serde_json::from_str(&body).map_err(|wrong| (StatusCode::BAD_REQUEST, format!("{wrong}\n")))?;
    nodes.change(id.into(), change)
}

async fn remove(State(nodes): State<Arc<Nodes>>, Path(id): Path<String>) -> StatusCode {
    if nodes.cluster.remove(id) { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND }
}

impl Nodes {
    pub(crate) fn new(cluster: Cluster<Upstream>, config: &Config) -> Self {
        Self { cluster, upstreams: config.upstreams(), one_at_a_time: Mutex::default() }
    }

    fn change(&self, id: NodeId, change: NodeChange) -> Result<StatusCode, Refusal> {
        let _alone = self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.cluster.get(id.clone());
        let service = match (&change.url, &known) {
            (Some(url), _) => url.reach(&self.upstreams),
            // Its connections are kept.
            (None, Some(known)) => Upstream::clone(&known.service),
            (None, None) => {
                let message = format!("no node is named \"{id}\": give a `url` to add it\n");
                return Err((StatusCode::NOT_FOUND, message));
            }
        };
        let (node, code) = match &known {
            Some(known) => (known.member.node.clone(), StatusCode::NO_CONTENT),
            None => (Node::new(id), StatusCode::CREATED),
        };
        let inserted = self.cluster.insert(change.apply(node), service);
        inserted.map(|()| code).map_err(|wrong| (StatusCode::BAD_REQUEST, format!("{wrong}\n")))
    }
}

impl NodeChange {
    fn apply(self, mut node: Node) -> Node {
        node.admin = self.admin.unwrap_or(node.admin);
        node.weight = self.weight.unwrap_or(node.weight);
        node.priority = self.priority.unwrap_or(node.priority);
        node.zone = self.zone.map(Into::into).or(node.zone);
        match self.max_in_flight {
            Some(limit) => node.max_in_flight(limit),
            None => node,
        }
    }
}
