//! The policies that come with the crate.
//!
//! | policy | reach for it when |
//! |---|---|
//! | [`LeastResponseTime`] | nodes or requests differ and you do not want to think about it: the default |
//! | [`LeastRequest`] | latency says little (streams, long polls), or every nanosecond counts |
//! | [`RoundRobin`] | nodes are alike and requests cost about the same |
//! | [`WeightedRoundRobin`] | as above, and capacities are known and fixed |
//! | [`Random`], [`WeightedRandom`] | there are far more clients than requests from each |
//! | [`ConsistentHash`], [`IpHash`] | the same key should meet the same node: caches, sessions |

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
