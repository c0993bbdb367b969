//! Keeps a service from drowning: limits that find themselves, short queues, and who is turned away first.
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
