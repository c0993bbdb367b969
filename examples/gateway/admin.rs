//! The admin port: how the gateway is doing, and where its requests go.
//!
//! | request | does |
//! |---|---|
//! | `GET /healthz` | answers 200 while the gateway runs |
//! | `GET /status` | tells of each node, as JSON |
//! | `PUT /nodes/ID` | changes a node, or adds one if there is a `url`: `{"admin": "draining", "weight": 2}` |
//! | `DELETE /nodes/ID` | takes a node out; what it has in flight goes on |
//! | `DELETE /nodes/ID/ejection` | lets a node back in that was ejected |
//!
//! It asks nobody who they are: it belongs on loopback, where it is unless told otherwise, or behind something that does.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::{delete, get, put},
};
use buttress::cluster::{Admin, Node, NodeId};
use serde::Deserialize;
use tokio::net::TcpListener;

use crate::{
    config::{DEFAULT_CLUSTER, Url},
    pool::Nodes,
    status::Status,
};

/// The clusters. No two nodes of theirs have a name in common.
type Pools = Arc<[Arc<dyn Nodes>]>;

/// What a node shall be from now on. Absent is as it was.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeChange {
    /// Where it is, if it is new or was elsewhere.
    url: Option<Url>,
    /// Where a new node belongs: to the default cluster, unless given.
    cluster: Option<String>,
    admin: Option<Admin>,
    weight: Option<u16>,
    zone: Option<String>,
    priority: Option<u8>,
    /// 0 is no limit.
    max_in_flight: Option<u32>,
}

/// An answer that says what is wrong.
type Refusal = (StatusCode, String);

pub(crate) async fn serve(listener: TcpListener, pools: Vec<Arc<dyn Nodes>>, status: Arc<Status>) {
    let app = Router::new()
        .route("/nodes/{id}", put(change).delete(remove))
        .route("/nodes/{id}/ejection", delete(readmit))
        .with_state(Pools::from(pools))
        .route("/status", get(async move || Json(status.snapshot())))
        .route("/healthz", get("ok\n"));
    // Never ends: axum waits when the system has no more sockets.
    drop(axum::serve(listener, app).await);
}

async fn change(
    State(pools): State<Pools>,
    Path(id): Path<NodeId>,
    body: String,
) -> Result<StatusCode, Refusal> {
    let change: NodeChange =
        serde_json::from_str(&body).map_err(|wrong| (StatusCode::BAD_REQUEST, format!("{wrong}\n")))?;
    let pool = match (home(&pools, &id), &change) {
        (Some(pool), NodeChange { cluster: Some(cluster), .. }) if pool.name() != cluster => {
            let message = format!("\"{id}\" is a node of cluster {:?}: remove it there first\n", pool.name());
            return Err((StatusCode::CONFLICT, message));
        }
        (Some(pool), _) => pool,
        (None, NodeChange { url: None, .. }) => {
            let message = format!("no node is named \"{id}\": give a `url` to add it\n");
            return Err((StatusCode::NOT_FOUND, message));
        }
        (None, NodeChange { cluster, .. }) => {
            let name = cluster.as_deref().unwrap_or(DEFAULT_CLUSTER);
            let known = pools.iter().find(|pool| pool.name() == name);
            known.ok_or_else(|| (StatusCode::NOT_FOUND, format!("there is no cluster {name:?}\n")))?
        }
    };
    match pool.change(&id, change.url.as_ref(), &|node| change.apply(node)) {
        Ok(true) => Ok(StatusCode::CREATED),
        Ok(false) => Ok(StatusCode::NO_CONTENT),
        Err(wrong) => Err((StatusCode::BAD_REQUEST, format!("{wrong}\n"))),
    }
}

async fn remove(State(pools): State<Pools>, Path(id): Path<NodeId>) -> StatusCode {
    done(pools.iter().any(|pool| pool.remove(&id)))
}

async fn readmit(State(pools): State<Pools>, Path(id): Path<NodeId>) -> StatusCode {
    done(pools.iter().any(|pool| pool.readmit(&id)))
}

fn done(there_was_one: bool) -> StatusCode {
    if there_was_one { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND }
}

/// The cluster that has this node.
fn home<'a>(pools: &'a Pools, id: &NodeId) -> Option<&'a Arc<dyn Nodes>> {
    pools.iter().find(|pool| pool.has(id))
}

impl NodeChange {
    fn apply(&self, mut node: Node) -> Node {
        node.admin = self.admin.unwrap_or(node.admin);
        node.weight = self.weight.unwrap_or(node.weight);
        node.priority = self.priority.unwrap_or(node.priority);
        node.zone = self.zone.as_deref().map(Into::into).or(node.zone);
        match self.max_in_flight {
            Some(limit) => node.max_in_flight(limit),
            None => node,
        }
    }
}
