//! Checks that connect.

use std::net::SocketAddr;
use std::time::Duration;

use buttress::cluster::{Cluster, Endpoint, Health, Node};
use buttress::health::{Answer, HealthCheck, Monitor, TcpCheck};
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};

use crate::stage::health;

const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_node_is_up_while_it_accepts_connections() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let cluster = Cluster::new([(Node::new("a"), addr)]).unwrap();
    let check = TcpCheck::new(|endpoint: &Endpoint<SocketAddr>| *endpoint.service);
    let builder = Monitor::builder().interval(Duration::from_millis(50)).timeout(Duration::from_millis(49));
    let monitor = builder.start(&cluster, check).unwrap();
    let until = async |wanted| {
        while health(&cluster, "a") != wanted {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, until(Health::Up)).await.expect("it listens");
    drop(listener);
    timeout(PATIENCE, until(Health::Down)).await.expect("nobody listens");
    let reason = monitor.report()[0].last.clone().unwrap().unwrap_err();
    assert!(reason.reason().contains("refused"), "{reason}");
}

#[tokio::test]
async fn names_are_looked_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let cluster = Cluster::new([(Node::new("localhost"), port)]).unwrap();
    let check = TcpCheck::new(|endpoint: &Endpoint<u16>| {
        // An address in the form of a text, so that no resolver is asked.
        format!("127.0.0.1:{}", endpoint.service)
    });
    let answer = timeout(PATIENCE, check.check(cluster.get("localhost").unwrap())).await.unwrap();
    assert_eq!(answer, Ok(Answer::Healthy));
}
