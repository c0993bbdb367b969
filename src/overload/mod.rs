//! Overload control: keeps a service from doing work that nobody waits for any more.
//!
//! A service that gets more than it can do answers late; its callers give up and come again, and soon all it does is
//! answer those who have left. With a queue that has no end this lasts when the load is back to normal, and budgets for
//! retries only make it slower to begin. What ends it is a short queue: what cannot be done in time is turned away at
//! once, which costs next to nothing.
//!
//! A [`Limiter`] holds the limit; [`Limit`] puts it around a service.
//!
//! - **How many at once**: a [`LimitAlgorithm`] finds out. [`Gradient`] compares latency with what it is without load and
//!   needs no settings; [`Aimd`] keeps latency below a threshold that you know; [`Fixed`] does what it is told.
//! - **Who waits**: up to a [`Queue`]'s limit, and no longer than its patience or the request's deadline.
//! - **Who is turned away first**: the lower [`Priority`].
//!
//! The rules are those of [`Admission`], a core without clock and I/O.
//!
//! ```
//! use buttress::overload::{Gradient, Limit, Limiter, Queue};
//! use tower::{Service, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let echo = service_fn(|request: u32| async move { Ok::<_, std::io::Error>(request) });
//! // The application keeps the handle, services get clones of it.
//! let limiter = Limiter::new(Gradient::default(), Queue::default());
//! let mut service = Limit::new(echo, limiter.clone());
//! assert_eq!(service.ready().await?.call(1).await?, 1);
//! assert_eq!((limiter.status().admitted, limiter.status().limit), (1, 20));
//! # Ok(())
//! # }
//! ```
//!
//! Put the limit outside of timeouts and retries of its service, so that it sees what a request really takes; and inside
//! of what rejects requests for nothing, such as authentication. Latency counts from admission to the head of the answer.
//! A limit shared by requests of very different cost fits none of them: give each kind a limiter of its own.

mod admission;
mod algorithm;
mod error;
mod future;
#[cfg(feature = "http")]
pub mod http;
mod limiter;
mod service;
mod terms;

pub use self::{
    admission::{Admission, Arrival, Place, Queue, Ticket},
    algorithm::{Aimd, Bounds, Fixed, Gradient, InvalidSetting, LimitAlgorithm, Outcome, Sample},
    error::{Error, Overloaded, Reason},
    future::ResponseFuture,
    limiter::{Limiter, Permit, Status},
    service::{Limit, LimitLayer},
    terms::{Priority, SameTerms, Terms, TermsOf},
};
