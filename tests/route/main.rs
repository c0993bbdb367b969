//! Routing: the rules beside a naive model, hostile requests, the service, and clusters behind a proxy.

#![cfg(feature = "proxy")]

mod hostile;
mod model;
mod rules;
mod service;
mod sockets;
#[path = "../support/sockets.rs"]
mod support;

use buttress::route::{Routes, Rule, Unmatched};
use http::Request;

/// A table whose targets are what the rules look like.
fn table(rules: impl IntoIterator<Item = Rule>) -> Routes<String> {
    Routes::new(rules.into_iter().map(|rule| (rule.clone(), rule.to_string()))).unwrap()
}

fn get(uri: &str) -> Request<()> {
    Request::get(uri).body(()).unwrap()
}

fn found<B>(routes: &Routes<String>, request: &Request<B>) -> Result<String, Unmatched> {
    routes.find(request).map(|found| found.target().clone())
}
