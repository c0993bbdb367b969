//! A cluster that follows a registry: nodes come and go, the registry fails, and requests are answered all the while.
//!
//! `cargo run --example discovery`

use std::{convert::Infallible, error::Error, io};

use buttress::{
    balance::{Balance, RoundRobin},
    cluster::{Cluster, Node},
    discover::{Event, follow_nodes},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tower::{Service, ServiceExt, service_fn};

/// Reaches a node; a real one would connect to its address.
fn connect(
    node: &Node,
) -> impl Service<u32, Response = (), Error = Infallible, Future: Send> + Clone + use<> {
    println!("    connects to {}", node.id);
    service_fn(|_request| async { Ok(()) })
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let cluster = Cluster::new([])?;
    // Any stream of lists will do: a watch on a registry, a file that is read again, a timer with a query.
    let (registry, lists) = mpsc::unbounded_channel();
    let lists = UnboundedReceiverStream::new(lists);
    let (events, mut seen) = mpsc::unbounded_channel();
    let told = move |event: Event<io::Error>| drop(events.send(event));
    // It runs until the stream ends. Nodes that stay keep their connections and what is known of them.
    let following = tokio::spawn(follow_nodes(cluster.clone(), lists, connect, told));

    let mut balance = Balance::new(cluster.clone(), RoundRobin);
    let list = |names: &[&str]| Ok(names.iter().map(|name| Node::new(*name)).collect::<Vec<_>>());
    for (news, update) in [
        ("two nodes", list(&["a", "b"])),
        ("a third", list(&["a", "b", "c"])),
        ("no answer", Err(io::Error::other("the registry is down"))),
        ("an empty list", list(&[])),
        ("one has left", list(&["b", "c"])),
    ] {
        println!("the registry says: {news}");
        registry.send(update)?;
        let event = seen.recv().await.ok_or("it follows to the end")?;
        let before: Vec<_> = cluster.load().iter().map(|member| member.state.requests()).collect();
        for request in 0..60 {
            balance.ready().await?.call(request).await?;
        }
        println!("    {event:?}");
        for (member, before) in cluster.load().iter().zip(before) {
            println!("    {} serves {} of 60 requests", member.node.id, member.state.requests() - before);
        }
    }
    drop(registry);
    following.await?;
    Ok(())
}
