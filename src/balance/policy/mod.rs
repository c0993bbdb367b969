//! The policies that come with the crate.

mod consistent_hash;
mod least_request;
mod least_response_time;
mod random;
mod round_robin;
mod sample;
mod weighted_round_robin;

pub use self::{
    consistent_hash::{ConsistentHash, IpHash},
    least_request::LeastRequest,
    least_response_time::LeastResponseTime,
    random::{Random, WeightedRandom},
    round_robin::RoundRobin,
    weighted_round_robin::WeightedRoundRobin,
};
