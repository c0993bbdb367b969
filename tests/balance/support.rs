//! Nodes in process that answer when the test says so.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use buttress::{
    cluster::{Cluster, Node},
    rng::Rng,
};
use tokio::sync::oneshot;
use tower::Service;

type Answer = Result<(), io::Error>;
type Calls = Arc<Mutex<BTreeMap<u64, oneshot::Sender<Answer>>>>;
type Visits = Arc<Mutex<BTreeMap<u64, Vec<String>>>>;

/// The requests that have reached a node and wait for its answer.
#[derive(Clone, Default)]
pub(crate) struct Stage {
    calls: Calls,
    visits: Visits,
}

impl Stage {
    /// The service of a node that hands its requests to this stage.
    pub(crate) fn node(&self, name: &str) -> Held {
        Held { name: name.to_owned(), stage: self.clone() }
    }

    /// Nodes a, b, c and so on, each with this limit.
    pub(crate) fn cluster(&self, nodes: usize, limit: u32) -> Cluster<Held> {
        let node = |name: char| {
            let name = name.to_string();
            (Node::new(name.clone()).max_in_flight(limit), self.node(&name))
        };
        Cluster::new(('a'..).take(nodes).map(node)).unwrap()
    }

    /// The requests on stage by number, which is that of the request.
    pub(crate) fn requests(&self) -> Vec<u64> {
        self.calls.lock().unwrap().keys().copied().collect()
    }

    /// The nodes that have seen a request.
    pub(crate) fn visited(&self, request: u64) -> Vec<String> {
        self.visits.lock().unwrap().get(&request).cloned().unwrap_or_default()
    }

    /// Answers a request.
    pub(crate) fn answer(&self, request: u64, answer: Answer) {
        let caller = self.calls.lock().unwrap().remove(&request).expect("a request on stage");
        // A caller who went away does not want it.
        let _ = caller.send(answer);
    }

    /// Answers a random request, or fails it. False if there is none.
    pub(crate) fn answer_any(&self, rng: &mut Rng, fail: bool) -> bool {
        let requests = self.requests();
        let Some(&request) = requests.get(rng.below(requests.len())) else { return false };
        self.answer(request, if fail { Err(io::Error::other("failed on stage")) } else { Ok(()) });
        true
    }

    /// Takes those off the stage whose caller went away.
    pub(crate) fn sweep(&self) {
        self.calls.lock().unwrap().retain(|_, caller| !caller.is_closed());
    }
}

#[derive(Clone)]
pub(crate) struct Held {
    name: String,
    stage: Stage,
}

impl Service<u64> for Held {
    type Response = String;
    type Error = io::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = io::Result<String>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u64) -> Self::Future {
        let (caller, answer) = oneshot::channel();
        let name = self.name.clone();
        self.stage.calls.lock().unwrap().insert(request, caller);
        self.stage.visits.lock().unwrap().entry(request).or_default().push(name.clone());
        Box::pin(async move {
            answer.await.map_err(|_| io::Error::other("the stage is gone"))??;
            Ok(name)
        })
    }
}

pub(crate) fn in_flight<S>(cluster: &Cluster<S>) -> u32 {
    cluster.load().iter().map(|member| member.state.in_flight()).sum()
}
