//! What is asked of a node, and what comes of it.

use std::{error::Error, fmt, sync::Arc};

use async_trait::async_trait;

use crate::cluster::Endpoint;

/// How much of a reason is kept for each node: it may come from the node.
const MAX_REASON: usize = 256;

/// Finds out how one node is.
///
/// Functions and closures from an `Arc<Endpoint<S>>` to a future of [`CheckResult`] will do; a closure must name the
/// type of its parameter. Checks run beside each other, each in a task of its own, and need not care for time: a check
/// is dropped when its time is up. A panic is a failed check.
#[async_trait]
pub trait HealthCheck<S>: Send + Sync + 'static {
    /// Checks the node at `endpoint`.
    ///
    /// # Errors
    /// If the node is not healthy, with the reason.
    async fn check(&self, endpoint: Arc<Endpoint<S>>) -> CheckResult;
}

#[async_trait]
impl<S, F, Fut> HealthCheck<S> for F
where
    S: Send + Sync + 'static,
    F: Fn(Arc<Endpoint<S>>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = CheckResult> + Send,
{
    async fn check(&self, endpoint: Arc<Endpoint<S>>) -> CheckResult {
        self(endpoint).await
    }
}

#[async_trait]
impl<S: Send + Sync + 'static> HealthCheck<S> for Arc<dyn HealthCheck<S>> {
    async fn check(&self, endpoint: Arc<Endpoint<S>>) -> CheckResult {
        (**self).check(endpoint).await
    }
}

/// What came of a check.
pub type CheckResult = Result<Answer, Unhealthy>;

/// What a node says that answers as it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// It can take traffic.
    Healthy,
    /// It is about to go away, and wants no new traffic.
    Draining,
}

/// Why a check found a node unhealthy, in words.
///
/// Made from any error by `?`, with all its sources, or from a text. At most 256 bytes are kept, and control characters are
/// escaped: the text may come from the node.
///
/// ```
/// use buttress::health::Unhealthy;
///
/// let error = std::io::Error::other("connection refused");
/// assert_eq!(Unhealthy::from(error).reason(), "connection refused");
/// assert_eq!(Unhealthy::new(format_args!("{} jobs wait", 812)).reason(), "812 jobs wait");
/// ```
// Not an `Error` itself: that would rule out `From` for all others.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Unhealthy {
    reason: Arc<str>,
}

impl Unhealthy {
    /// Unhealthy for this reason.
    pub fn new(reason: impl fmt::Display) -> Self {
        let mut kept = Kept::default();
        // It fails when there is no more room.
        let _ = fmt::Write::write_fmt(&mut kept, format_args!("{reason}"));
        Self { reason: kept.0.into() }
    }

    /// The reason.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl<E: Error> From<E> for Unhealthy {
    fn from(error: E) -> Self {
        Self::new(Chain(&error))
    }
}

impl fmt::Display for Unhealthy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.reason)
    }
}

impl fmt::Debug for Unhealthy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Unhealthy").field(&self.reason).finish()
    }
}

/// An error and its sources.
struct Chain<'a>(&'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        f.write_str(&said)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            let says = error.to_string();
            // Some errors repeat their source.
            if !said.contains(&says) {
                write!(f, ": {says}")?;
            }
            said = says;
            source = error.source();
        }
        Ok(())
    }
}

/// The beginning of a text, on one line.
#[derive(Default)]
struct Kept(String);

impl fmt::Write for Kept {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for char in text.chars() {
            let before = self.0.len();
            if char.is_control() {
                self.0.extend(char.escape_debug());
            } else {
                self.0.push(char);
            }
            if self.0.len() > MAX_REASON {
                self.0.truncate(before);
                return Err(fmt::Error);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot connect to the server")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn a_reason_names_all_sources() {
        let error = Outer(std::io::Error::other("no route to host"));
        assert_eq!(Unhealthy::from(error).reason(), "cannot connect to the server: no route to host");
    }

    #[test]
    fn a_reason_is_short_and_on_one_line() {
        let hostile = format!("\x1b[2J\n{}", "ü".repeat(10_000));
        let reason = Unhealthy::new(hostile);
        assert!(reason.reason().len() <= MAX_REASON);
        assert!(reason.reason().starts_with("\\u{1b}[2J\\nü"), "{reason}");
    }
}
