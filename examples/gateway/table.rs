//! A snapshot as text: a table for people who watch, a line for logs.

use std::iter;

use buttress::cluster::Admin;

use crate::status::{ClusterStatus, LimitStatus, NodeStatus, Snapshot};

/// How wide a full bar is.
const BAR: usize = 20;

/// The longest name that is shown whole: lines that wrap would spoil the table.
const NAME: usize = 16;

/// One line for each node, under a head, over the sums.
pub(crate) fn table(snapshot: &Snapshot) -> Vec<String> {
    let mut lines = vec![line("node", "state", "in-flight", "latency", "requests", "errors", "  share")];
    let mut cluster = None;
    for node in &snapshot.nodes {
        if snapshot.clusters.len() > 1 && cluster != Some(&node.cluster) {
            cluster = Some(&node.cluster);
            lines.extend([String::new(), title(snapshot, &node.cluster)]);
        }
        let share =
            node.share.map_or_else(String::new, |share| format!("{:>4.0} % {}", share * 100.0, bar(share)));
        lines.push(line(
            &shortened(&node.id),
            state(node),
            &node.in_flight.to_string(),
            &latency(node),
            &node.requests.to_string(),
            &node.failures.to_string(),
            &share,
        ));
    }
    let totals = &snapshot.totals;
    lines.push(String::new());
    // Where there are several, it stands in their titles.
    let policy = match &*snapshot.clusters {
        [only] => format!("; policy {}{}", only.policy, load(only)),
        _ => String::new(),
    };
    lines.push(format!(
        "{} requests/s, {} connections, {} given up by clients{policy}",
        totals.requests_per_second, snapshot.connections, totals.cancelled
    ));
    lines
}

/// What stands above the nodes of a cluster, where there are several.
fn title(snapshot: &Snapshot, cluster: &str) -> String {
    let known = snapshot.clusters.iter().find(|known| known.name == cluster);
    let known = known.map_or_else(String::new, |known| known.policy.clone() + &load(known));
    format!("{}: {known}", shortened(cluster))
}

/// What the limit of a cluster does, if there is one.
fn load(cluster: &ClusterStatus) -> String {
    let Some(LimitStatus { limit, in_flight, waiting, shed, .. }) = &cluster.limit else {
        return String::new();
    };
    format!("; {in_flight} of {limit} at once, {waiting} waiting, {shed} turned away")
}

/// Everything in one line.
pub(crate) fn summary(snapshot: &Snapshot) -> String {
    let totals = &snapshot.totals;
    let sums =
        format!("{} requests, {} errors, {} in flight", totals.requests, totals.failures, totals.in_flight);
    let node = |node: &NodeStatus| {
        let share = node.share.map_or_else(|| "-".to_owned(), |share| format!("{:.0} %", share * 100.0));
        format!("{} {} {share} {}", node.id, state(node), latency(node))
    };
    let parts: Vec<_> = iter::once(sums).chain(snapshot.nodes.iter().map(node)).collect();
    parts.join("; ")
}

fn line(
    node: &str,
    state: &str,
    in_flight: &str,
    latency: &str,
    requests: &str,
    errors: &str,
    share: &str,
) -> String {
    let line =
        format!("{node:<NAME$} {state:<9} {in_flight:>9} {latency:>9} {requests:>9} {errors:>6} {share}");
    line.trim_end().to_owned()
}

fn state(node: &NodeStatus) -> &'static str {
    match node.admin {
        Admin::Down => "down",
        Admin::Draining => "draining",
        Admin::Active if node.weight == 0 => "weight 0",
        Admin::Active if node.health == "down" => "unhealthy",
        Admin::Active if node.health == "draining" => "leaving",
        Admin::Active if node.ejected.is_some() => "ejected",
        Admin::Active if node.suspended => "suspended",
        Admin::Active if node.full => "full",
        Admin::Active if node.warming_up => "warming",
        Admin::Active => "up",
    }
}

fn latency(node: &NodeStatus) -> String {
    match node.latency_ms {
        Some(ms) if ms < 100.0 => format!("{ms:.1} ms"),
        Some(ms) if ms < 10_000.0 => format!("{ms:.0} ms"),
        Some(ms) => format!("{:.0} s", ms / 1000.0),
        None => "-".to_owned(),
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share is from 0 to 1")]
fn bar(share: f64) -> String {
    "█".repeat((share * BAR as f64).round() as usize)
}

fn shortened(name: &str) -> String {
    if name.chars().count() <= NAME {
        return name.to_owned();
    }
    // The end tells addresses apart.
    let end: String = name.chars().skip(name.chars().count() - (NAME - 1)).collect();
    format!("…{end}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Totals;

    fn node(id: &str, share: Option<f64>, latency_ms: Option<f64>) -> NodeStatus {
        NodeStatus {
            id: id.to_owned(),
            cluster: "default".to_owned(),
            url: "http://127.0.0.1:1".to_owned(),
            admin: Admin::Active,
            health: "unknown",
            complaint: None,
            ejected: None,
            ejected_for_ms: None,
            warming_up: false,
            suspended: false,
            full: false,
            weight: 1,
            in_flight: 3,
            requests: 1_234_567,
            failures: 2,
            cancelled: 0,
            latency_ms,
            share,
        }
    }

    fn cluster(name: &str, policy: &str) -> ClusterStatus {
        ClusterStatus { name: name.to_owned(), policy: policy.to_owned(), limit: None }
    }

    fn snapshot() -> Snapshot {
        let mut slow = node("slow", Some(0.115), Some(20_400.0));
        slow.suspended = true;
        let mut leaving = node("10.100.200.107:8080", None, None);
        leaving.admin = Admin::Draining;
        let totals = Totals {
            in_flight: 9,
            requests: 3_703_701,
            failures: 6,
            cancelled: 1,
            requests_per_second: 4321,
        };
        Snapshot {
            connections: 64,
            totals,
            clusters: vec![cluster("default", "least_response_time")],
            nodes: vec![node("fast", Some(0.885), Some(2.14)), slow, leaving],
            ..Snapshot::default()
        }
    }

    #[test]
    fn a_table_has_a_line_for_each_node() {
        let expected = "\
node             state     in-flight   latency  requests errors   share
fast             up                3    2.1 ms   1234567      2   88 % ██████████████████
slow             suspended         3      20 s   1234567      2   12 % ██
…00.200.107:8080 draining          3         -   1234567      2

4321 requests/s, 64 connections, 1 given up by clients; policy least_response_time";
        assert_eq!(table(&snapshot()).join("\n"), expected);
    }

    #[test]
    fn several_clusters_have_titles() {
        let mut api = node("api-1", None, None);
        (api.cluster, api.ejected) = ("api".to_owned(), Some("failures in a row".to_owned()));
        let limit = LimitStatus { limit: 40, in_flight: 40, waiting: 7, admitted: 90, shed: 12 };
        let limited = ClusterStatus { limit: Some(limit), ..cluster("api", "ip_hash") };
        let clusters = vec![cluster("default", "round_robin"), limited];
        let snapshot = Snapshot { nodes: vec![node("web-1", None, None), api], clusters, ..snapshot() };
        let expected = "\
node             state     in-flight   latency  requests errors   share

default: round_robin
web-1            up                3         -   1234567      2

api: ip_hash; 40 of 40 at once, 7 waiting, 12 turned away
api-1            ejected           3         -   1234567      2

4321 requests/s, 64 connections, 1 given up by clients";
        assert_eq!(table(&snapshot).join("\n"), expected);
    }

    #[test]
    fn no_line_grows_with_what_it_shows() {
        let widest =
            Snapshot { nodes: vec![node("a-name-that-is-far-too-long", Some(1.0), None)], ..snapshot() };
        for line in table(&widest) {
            assert!(line.chars().count() <= 92, "{line}");
        }
    }

    #[test]
    fn a_summary_is_one_line() {
        let expected = "3703701 requests, 6 errors, 9 in flight; fast up 88 % 2.1 ms; slow suspended 12 % 20 s; \
                        10.100.200.107:8080 draining - -";
        assert_eq!(summary(&snapshot()), expected);
    }
}
