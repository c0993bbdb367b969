//! How much a cluster is asked to do at once.

use std::{fmt, str::FromStr, time::Duration};

use buttress::{
    forward::TrustedProxies,
    overload::{Aimd, Bounds, Fixed, Gradient, Limiter, Queue},
};
use hyper::header::HeaderName;
use serde::{Deserialize, Deserializer};

use super::value::{parsed, some_parsed, some_span, span};
use crate::priority::Matters;

/// How many requests a cluster has in flight at most, and who is turned away first.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Unchecked")]
pub(crate) struct Overload {
    settings: Unchecked,
    algorithm: Algorithm,
}

#[derive(Clone, Debug)]
enum Algorithm {
    Gradient(Gradient),
    Aimd(Aimd),
    Fixed(Fixed),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Unchecked {
    enabled: bool,
    algorithm: Name,
    /// For the algorithms that find the limit by themselves: its range.
    min: Option<usize>,
    max: Option<usize>,
    /// For `fixed`.
    limit: Option<usize>,
    /// For `aimd`: the latency that is too high.
    #[serde(deserialize_with = "some_span")]
    threshold: Option<Duration>,
    /// For `gradient`: how many times as high as without load latency may be.
    tolerance: Option<f64>,
    /// How many may wait.
    queue: usize,
    #[serde(deserialize_with = "span")]
    patience: Duration,
    #[serde(deserialize_with = "some_parsed")]
    priority_header: Option<HeaderName>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Name {
    #[default]
    Gradient,
    Aimd,
    Fixed,
}

impl Overload {
    pub(super) fn is_enabled(&self) -> bool {
        self.settings.enabled
    }

    pub(crate) fn limiter(&self) -> Limiter {
        let queue = Queue::new(self.settings.queue, self.settings.patience);
        match self.algorithm.clone() {
            Algorithm::Gradient(gradient) => Limiter::new(gradient, queue),
            Algorithm::Aimd(aimd) => Limiter::new(aimd, queue),
            Algorithm::Fixed(fixed) => Limiter::new(fixed, queue),
        }
    }

    /// What says how much a request matters.
    pub(crate) fn matters(&self, trusted: TrustedProxies) -> Matters {
        Matters::by_header(self.settings.priority_header.clone(), trusted)
    }
}

impl TryFrom<Unchecked> for Overload {
    type Error = String;

    fn try_from(settings: Unchecked) -> Result<Self, String> {
        let Unchecked { algorithm: name, min, max, limit, threshold, tolerance, .. } = &settings;
        let owned = [
            ("min", min.is_some(), *name != Name::Fixed),
            ("max", max.is_some(), *name != Name::Fixed),
            ("limit", limit.is_some(), *name == Name::Fixed),
            ("threshold", threshold.is_some(), *name == Name::Aimd),
            ("tolerance", tolerance.is_some(), *name == Name::Gradient),
        ];
        if let Some((key, ..)) = owned.iter().find(|(_, is_set, is_ours)| *is_set && !is_ours) {
            return Err(format!("`{key}` is no setting of {name}"));
        }
        let wrong = |error: buttress::overload::InvalidSetting| error.to_string();
        let bounds = Bounds::new(min.unwrap_or(4), max.unwrap_or(1000)).map_err(wrong);
        let algorithm = match name {
            Name::Gradient => {
                let gradient = Gradient::new(bounds?);
                Algorithm::Gradient(match tolerance {
                    Some(factor) => gradient.tolerance(*factor).map_err(wrong)?,
                    None => gradient,
                })
            }
            Name::Aimd => {
                let threshold = threshold.ok_or("aimd wants a `threshold`: the latency that is too high")?;
                Algorithm::Aimd(Aimd::new(bounds?, threshold))
            }
            Name::Fixed => {
                let limit = limit.ok_or("fixed wants a `limit`")?;
                Algorithm::Fixed(Fixed::new(limit).map_err(wrong)?)
            }
        };
        Ok(Self { settings, algorithm })
    }
}

impl Default for Unchecked {
    fn default() -> Self {
        Self {
            enabled: true,
            algorithm: Name::Gradient,
            min: None,
            max: None,
            limit: None,
            threshold: None,
            tolerance: None,
            queue: 1000,
            patience: Duration::from_millis(100),
            priority_header: None,
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gradient => "gradient",
            Self::Aimd => "aimd",
            Self::Fixed => "fixed",
        })
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Gradient, Self::Aimd, Self::Fixed]
            .into_iter()
            .find(|name| name.to_string() == text)
            .ok_or_else(|| format!("{text:?} is no algorithm of mine: there are gradient, aimd and fixed"))
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        parsed(from)
    }
}
