//! Retries and hedges: which node is asked, when, how often, and what is left behind.

#![cfg(feature = "proxy")]

mod exclusion;
mod hedge;
mod histories;
mod http;
mod support;
mod time;
mod waiting;
