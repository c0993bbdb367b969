//! One round of questions, and what to make of the answers.

use std::{
    cmp::Reverse,
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::task::JoinSet;
use tower::BoxError;

use super::{Answer, Dns, Family, Resolve, Source, Srv, schedule::Outcome};

/// How many questions are asked at once.
const CONCURRENCY: usize = 16;

/// A host and the kind of address that is asked for.
type Question = (Arc<str>, Family);

/// Asks, and remembers the last good answers.
#[derive(Debug)]
pub(super) struct Asker {
    dns: Dns,
    resolver: Arc<dyn Resolve>,
    known: HashMap<Question, Vec<IpAddr>>,
}

/// What came of one round of questions.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// In the order of priority and address, each address once.
    pub(super) found: Vec<Found>,
    /// How long the answers are valid; nothing if there are none.
    ttl: Option<Duration>,
    pub(super) errors: Vec<BoxError>,
    /// How many there were, if that was too many.
    pub(super) surplus: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) address: SocketAddr,
    pub(super) priority: u8,
    pub(super) weight: u16,
}

/// A host on which nodes run.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    host: Arc<str>,
    port: u16,
    priority: u8,
    weight: u16,
}

impl Round {
    pub(super) fn outcome(&self) -> Outcome {
        match (self.ttl, self.errors.is_empty()) {
            (ttl, true) => Outcome::Answered { ttl: ttl.unwrap_or_default() },
            (Some(ttl), false) if !self.found.is_empty() => Outcome::Partial { ttl },
            // An empty set that comes of failures is not what the source says.
            _ => Outcome::Failed,
        }
    }

    fn failed(error: BoxError) -> Self {
        Self { errors: vec![error], ..Self::default() }
    }
}

impl Asker {
    pub(super) fn new(dns: Dns, resolver: Arc<dyn Resolve>) -> Self {
        Self { dns, resolver, known: HashMap::new() }
    }

    pub(super) async fn ask(&mut self) -> Round {
        let mut round = Round::default();
        let targets = match &self.dns.source {
            Source::Addresses { host, port } => {
                vec![Target { host: Arc::clone(host), port: *port, priority: 0, weight: 1 }]
            }
            Source::Services { name } => {
                let name = Arc::clone(name);
                let resolver = Arc::clone(&self.resolver);
                match within(self.dns.timeout, async move { resolver.services(&name).await }).await {
                    Err(error) => return Round::failed(error),
                    Ok(answer) => {
                        round.ttl = (!answer.records.is_empty()).then_some(answer.ttl);
                        targets(answer.records, self.dns.max_nodes, &mut round.surplus)
                    }
                }
            }
        };
        self.ask_addresses(&targets, &mut round).await;
        round.found = self.collect(&targets, &mut round.surplus);
        round
    }

    /// Asks for the addresses of all targets and remembers them, in place of those before.
    async fn ask_addresses(&mut self, targets: &[Target], round: &mut Round) {
        let mut questions: Vec<Question> = Vec::new();
        for target in targets {
            questions.extend(self.dns.families.iter().map(|family| (Arc::clone(&target.host), *family)));
        }
        questions.sort_unstable();
        questions.dedup();
        // What is not asked for any more is forgotten; the rest stands until there is an answer.
        self.known.retain(|question, _| questions.binary_search(question).is_ok());

        let mut asked = JoinSet::new();
        let mut questions = questions.into_iter();
        loop {
            while asked.len() < CONCURRENCY
                && let Some(question) = questions.next()
            {
                asked.spawn(addresses(Arc::clone(&self.resolver), question, self.dns.timeout));
            }
            match asked.join_next().await {
                None => break,
                Some(Ok((question, Ok(answer)))) => {
                    if !answer.records.is_empty() {
                        round.ttl = Some(round.ttl.map_or(answer.ttl, |ttl| ttl.min(answer.ttl)));
                    }
                    self.known.insert(question, answer.records);
                }
                Some(Ok((_, Err(error)))) => round.errors.push(error),
                Some(Err(panic)) => round.errors.push(panic.into()),
            }
        }
    }

    /// The nodes that the targets and their addresses make.
    fn collect(&self, targets: &[Target], surplus: &mut Option<usize>) -> Vec<Found> {
        let mut found: Vec<Found> = Vec::new();
        for target in targets {
            for family in self.dns.families {
                let Some(known) = self.known.get(&(Arc::clone(&target.host), *family)) else { continue };
                // An IPv4 address in IPv6 clothes would make two nodes of one.
                found.extend(known.iter().map(|ip| Found {
                    address: SocketAddr::new(ip.to_canonical(), target.port),
                    priority: target.priority,
                    weight: target.weight,
                }));
            }
        }
        found.sort_unstable_by_key(|found| (found.address, found.priority, Reverse(found.weight)));
        found.dedup_by_key(|found| found.address);
        found.sort_unstable_by_key(|found| (found.priority, found.address));
        if found.len() > self.dns.max_nodes {
            *surplus = Some(surplus.unwrap_or(0).max(found.len()));
            found.truncate(self.dns.max_nodes);
        }
        found
    }
}

/// Hosts in the order of their priority, which becomes 0, 1, 2 and so on.
///
/// There are `max` at most: more nodes than that are not wanted, and so many questions neither.
fn targets(mut records: Vec<Srv>, max: usize, surplus: &mut Option<usize>) -> Vec<Target> {
    records.sort_unstable();
    records.dedup();
    if records.len() > max {
        *surplus = Some(records.len());
        records.truncate(max);
    }
    let mut rank = 0_u8;
    let mut previous = records.first().map(|first| first.priority);
    let mut targets = Vec::with_capacity(records.len());
    for Srv { priority, host, port, weight } in records {
        if previous.replace(priority) != Some(priority) {
            rank = rank.saturating_add(1);
        }
        targets.push(Target { host: host.into(), port, priority: rank, weight });
    }
    targets
}

async fn addresses(
    resolver: Arc<dyn Resolve>,
    question: Question,
    timeout: Duration,
) -> (Question, Result<Answer<IpAddr>, BoxError>) {
    let (host, family) = &question;
    let answer = match host.parse::<IpAddr>() {
        Ok(ip) if ip.is_ipv4() == (*family == Family::V4) => Ok(Answer::new([ip], Duration::MAX)),
        Ok(_) => Ok(Answer::none()),
        Err(_) => within(timeout, resolver.addresses(host, *family)).await,
    };
    (question, answer)
}

async fn within<T>(
    timeout: Duration,
    answer: impl Future<Output = Result<T, BoxError>>,
) -> Result<T, BoxError> {
    match tokio::time::timeout(timeout, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer within {timeout:?}").into()),
    }
}
