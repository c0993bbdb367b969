//! How a node is chosen.

use std::{fmt, ops::Range, str::FromStr};

use buttress::{
    balance::{self, KeyOf},
    forward::ClientAddr,
    placement::KeyHash,
};
use hyper::{Request, header::HeaderName};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::value::parsed;

/// A policy by its name, with settings that some of them have.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Policy {
    name: Name,
    choices: Option<Spanned<usize>>,
    vnodes: Option<Spanned<u32>>,
    load_bound: Option<Spanned<u32>>,
    key: Option<Spanned<RequestKey>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Name {
    #[default]
    LeastResponseTime,
    LeastRequest,
    RoundRobin,
    WeightedRoundRobin,
    Random,
    WeightedRandom,
    IpHash,
    ConsistentHash,
}

const NAMES: [(&str, Name); 8] = [
    ("least_response_time", Name::LeastResponseTime),
    ("least_request", Name::LeastRequest),
    ("round_robin", Name::RoundRobin),
    ("weighted_round_robin", Name::WeightedRoundRobin),
    ("random", Name::Random),
    ("weighted_random", Name::WeightedRandom),
    ("ip_hash", Name::IpHash),
    ("consistent_hash", Name::ConsistentHash),
];

impl Policy {
    pub(crate) fn build(&self) -> Box<dyn balance::Policy> {
        match self.name {
            Name::LeastResponseTime => Box::new(balance::LeastResponseTime::new()),
            Name::LeastRequest => Box::new(match &self.choices {
                Some(choices) => balance::LeastRequest::of(*choices.get_ref()),
                None => balance::LeastRequest::new(),
            }),
            Name::RoundRobin => Box::new(balance::RoundRobin),
            Name::WeightedRoundRobin => Box::new(balance::WeightedRoundRobin),
            Name::Random => Box::new(balance::Random),
            Name::WeightedRandom => Box::new(balance::WeightedRandom),
            Name::IpHash => Box::new(balance::IpHash::new()),
            Name::ConsistentHash => {
                let hash = match &self.vnodes {
                    Some(vnodes) => balance::ConsistentHash::ring(*vnodes.get_ref()),
                    None => balance::ConsistentHash::new(),
                };
                Box::new(match &self.load_bound {
                    Some(percent) => hash.load_bound(*percent.get_ref()),
                    None => hash,
                })
            }
        }
    }

    /// What the policy hashes of a request.
    pub(crate) fn key(&self) -> RequestKey {
        match (self.name, &self.key) {
            (Name::IpHash, _) => RequestKey::Client,
            (Name::ConsistentHash, Some(key)) => key.get_ref().clone(),
            (Name::ConsistentHash, None) => RequestKey::Path,
            _ => RequestKey::None,
        }
    }

    /// A setting that belongs to another policy.
    pub(super) fn misfit(&self) -> Option<(Range<usize>, String)> {
        let owned = [
            ("choices", self.choices.as_ref().map(Spanned::span), Name::LeastRequest),
            ("vnodes", self.vnodes.as_ref().map(Spanned::span), Name::ConsistentHash),
            ("load_bound", self.load_bound.as_ref().map(Spanned::span), Name::ConsistentHash),
            ("key", self.key.as_ref().map(Spanned::span), Name::ConsistentHash),
        ];
        owned.into_iter().find_map(|(key, span, owner)| {
            let span = span.filter(|_| owner != self.name)?;
            Some((span, format!("`{key}` is a setting of {owner}, and the policy is {}", self.name)))
        })
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self { name: text.parse()?, ..Self::default() })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = NAMES.iter().find(|(_, name)| name == self);
        f.write_str(known.map_or("", |(text, _)| text))
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        NAMES.iter().find(|(name, _)| *name == text).map(|(_, name)| *name).ok_or_else(|| {
            let names: Vec<_> = NAMES.iter().map(|(name, _)| *name).collect();
            format!("{text:?} is no policy of mine: there are {}", names.join(", "))
        })
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        parsed(from)
    }
}

/// The part of a request that decides where it goes, for policies that hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RequestKey {
    None,
    Client,
    Path,
    Header(HeaderName),
}

impl<B> KeyOf<Request<B>> for RequestKey {
    fn key(&self, request: &Request<B>) -> Option<KeyHash> {
        match self {
            Self::None => None,
            // The proxy in front has decided who that is.
            Self::Client => request.extensions().get().map(|&ClientAddr(ip)| KeyHash::from_ip(ip)),
            Self::Path => Some(KeyHash::of(request.uri().path())),
            Self::Header(name) => request.headers().get(name).map(|value| KeyHash::of(value.as_bytes())),
        }
    }
}

impl FromStr for RequestKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no key: write \"path\", \"client\" or \"header:NAME\"");
        match text.split_once(':') {
            None if text == "path" => Ok(Self::Path),
            None if text == "client" => Ok(Self::Client),
            Some(("header", name)) => name.trim().parse().map(Self::Header).map_err(|_| wrong()),
            _ => Err(wrong()),
        }
    }
}

impl<'de> Deserialize<'de> for RequestKey {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        parsed(from)
    }
}
