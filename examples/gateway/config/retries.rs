//! When a request is sent once more, to another node.

use std::time::Duration;

use buttress::balance::{Backoff, Budget, Hedge, Retry, http::RepeatHttp};
use serde::Deserialize;

use super::value::{ratio, some_span, span};

/// When a request is sent once more, to another node.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(try_from = "Unchecked")]
pub(crate) struct Retries {
    settings: Unchecked,
    backoff: Option<Backoff>,
    hedge: Option<Hedge>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Unchecked {
    /// On how many nodes a request is tried in all.
    tries: u32,
    /// How many retries there may be for each request, on average.
    #[serde(deserialize_with = "ratio")]
    budget: f64,
    /// How many there may be beyond that.
    burst: u32,
    /// How many bytes of a request's body are remembered for a second try.
    body_limit: usize,
    /// How long one node may take.
    #[serde(deserialize_with = "some_span")]
    try_timeout: Option<Duration>,
    /// How long all tries together may take.
    #[serde(deserialize_with = "some_span")]
    timeout: Option<Duration>,
    /// How long to wait before the first retry, at most; twice as long before each one after it.
    #[serde(deserialize_with = "some_span")]
    backoff: Option<Duration>,
    #[serde(deserialize_with = "span")]
    max_backoff: Duration,
    /// The share of requests that need no second node.
    hedge_quantile: Option<f64>,
    #[serde(deserialize_with = "some_span")]
    hedge_after: Option<Duration>,
}

impl Retries {
    /// Which HTTP requests may be sent again.
    pub(crate) fn repeat(&self) -> RepeatHttp {
        RepeatHttp::new().limit(self.settings.body_limit)
    }

    /// Retries of what `balance` sends.
    pub(crate) fn around<B, R>(&self, balance: B, repeat: R) -> Retry<B, R> {
        let Unchecked { tries, budget, burst, try_timeout, timeout, .. } = self.settings;
        let budget = Budget::new(budget, burst).expect("the ratio was checked when read");
        let mut retry = Retry::new(balance, repeat).tries(tries).budget(budget);
        if let Some(limit) = try_timeout {
            retry = retry.try_timeout(limit);
        }
        if let Some(limit) = timeout {
            retry = retry.timeout(limit);
        }
        if let Some(backoff) = self.backoff {
            retry = retry.backoff(backoff);
        }
        if let Some(hedge) = &self.hedge {
            retry = retry.hedge(hedge.clone());
        }
        retry
    }
}

impl TryFrom<Unchecked> for Retries {
    type Error = String;

    fn try_from(settings: Unchecked) -> Result<Self, String> {
        let backoff = settings.backoff.map(|base| Backoff::new(base, settings.max_backoff)).transpose();
        let hedge = match (settings.hedge_quantile, settings.hedge_after) {
            (Some(_), Some(_)) => {
                return Err("`hedge_quantile` and `hedge_after` exclude each other".to_owned());
            }
            (Some(quantile), None) => Some(Hedge::quantile(quantile).map_err(|error| error.to_string())?),
            (None, delay) => delay.map(Hedge::after),
        };
        Ok(Self { settings, backoff: backoff.map_err(|error| error.to_string())?, hedge })
    }
}

impl Default for Unchecked {
    fn default() -> Self {
        Self {
            tries: 3,
            budget: 0.2,
            burst: 50,
            body_limit: 64 * 1024,
            try_timeout: None,
            timeout: None,
            backoff: None,
            max_backoff: Duration::from_secs(1),
            hedge_quantile: None,
            hedge_after: None,
        }
    }
}
