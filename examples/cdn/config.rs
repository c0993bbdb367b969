//! The command line and the configuration file. Everything is checked as it is read.

use std::{net::SocketAddr, path::Path, str::FromStr, time::Duration};

use buttress::cdn::{CacheKey, Cdn, Policy, policy::SetCookie};
use hyper::http::{HeaderName, HeaderValue};
use serde::{Deserialize, Deserializer, de::Error};

pub(crate) const HELP: &str = "\
A caching gateway, built from buttress.

Usage: cdn [OPTIONS]

Without --origin and --config it starts an origin of its own and shows what the cache makes of it.

Options:
  --listen ADDR   where clients come in [127.0.0.1:8080]
  --origin URL    what to stand in front of, such as http://10.0.0.7:8080; several share the requests
  --config FILE   all there is to set, in TOML; examples/cdn/cdn.toml shows every key
  --help          prints this

SIGTERM and Ctrl-C end it after the requests that it has; a second one ends it at once.";

/// What the command line asks for.
pub(crate) enum Command {
    Help,
    Run(Box<Config>),
}

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) listen: SocketAddr,
    pub(crate) preserve_host: bool,
    pub(crate) log: bool,
    pub(crate) timeouts: Timeouts,
    pub(crate) origin: Vec<Origin>,
    pub(crate) health: Option<Health>,
    pub(crate) admin: Option<Admin>,
    cache: Cache,
    key: Key,
    policy: Rules,
    route: Vec<Route>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Origin {
    pub(crate) url: String,
    #[serde(default)]
    pub(crate) priority: u8,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Timeouts {
    #[serde(deserialize_with = "span")]
    pub(crate) connect: Duration,
    #[serde(deserialize_with = "span")]
    pub(crate) response: Duration,
    #[serde(deserialize_with = "span")]
    pub(crate) head: Duration,
    #[serde(deserialize_with = "span")]
    pub(crate) drain: Duration,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Health {
    pub(crate) path: String,
    #[serde(deserialize_with = "span")]
    pub(crate) interval: Duration,
    /// How many checks in a row must fail.
    pub(crate) fall: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Admin {
    pub(crate) listen: SocketAddr,
    pub(crate) token: String,
}

/// What is stored, and for how long.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Cache {
    #[serde(deserialize_with = "size")]
    memory: u64,
    #[serde(deserialize_with = "size")]
    max_object: u64,
    name: String,
}

/// What of a request tells its response from others.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Key {
    sort_query: bool,
    ignore_query: Vec<String>,
    only_query: Option<Vec<String>>,
    #[serde(deserialize_with = "names")]
    headers: Vec<HeaderName>,
    cookies: Vec<String>,
}

/// What is decided otherwise than RFC 9111 has it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Rules {
    client_directives: Option<bool>,
    set_cookie: Option<Cookies>,
    heuristics: Option<Heuristics>,
    fallback_ttl: Option<Span>,
    negative_ttl: Option<Span>,
    max_ttl: Option<Span>,
    stale_while_revalidate: Option<Span>,
    stale_if_error: Option<Span>,
    stale_if_unreachable: Option<Span>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Cookies {
    Explicit,
    Refuse,
    Strip,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Heuristics {
    percent: u32,
    #[serde(deserialize_with = "span")]
    limit: Duration,
}

/// What holds for URLs whose path begins like this.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Route {
    prefix: String,
    /// In place of what the origin says.
    #[serde(default, deserialize_with = "control")]
    cache_control: Option<HeaderValue>,
    /// In place of the rules for all.
    policy: Option<Rules>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            preserve_host: true,
            log: false,
            timeouts: Timeouts::default(),
            origin: Vec::new(),
            health: None,
            admin: None,
            cache: Cache::default(),
            key: Key::default(),
            policy: Rules::default(),
            route: Vec::new(),
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        let [connect, response, head, drain] = [2, 60, 60, 30].map(Duration::from_secs);
        Self { connect, response, head, drain }
    }
}

impl Default for Health {
    fn default() -> Self {
        Self { path: "/".to_owned(), interval: Duration::from_secs(5), fall: 3 }
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self { memory: 256 << 20, max_object: 64 << 20, name: "buttress".to_owned() }
    }
}

impl Config {
    fn read(file: &Path) -> Result<Self, String> {
        let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
        let text = std::fs::read_to_string(file).map_err(|error| wrong(&error))?;
        toml::from_str(&text).map_err(|error| wrong(&error))
    }

    /// The cache as it is told to be.
    pub(crate) fn cdn(&self) -> Cdn {
        let Cache { memory, max_object, name } = &self.cache;
        let mut cdn = Cdn::builder(*memory).max_object_size(*max_object).name(name.as_str());
        cdn = cdn.policy(self.policy.policy()).key(self.key.key());
        for Route { prefix, cache_control, policy } in &self.route {
            if let Some(rules) = policy {
                cdn = cdn.policy_at(prefix, rules.policy());
            }
            if let Some(value) = cache_control.clone() {
                let prefix = prefix.clone();
                // This field is for caches like this one; what browsers are told stays what the origin said.
                cdn = cdn.override_response(move |request, response| {
                    if request.uri.path().starts_with(&prefix) {
                        response.headers.insert("cdn-cache-control", value.clone());
                    }
                });
            }
        }
        cdn.build()
    }
}

impl Key {
    fn key(&self) -> CacheKey {
        let mut key = CacheKey::new().ignore_query(self.ignore_query.iter().cloned());
        if self.sort_query {
            key = key.sort_query();
        }
        if let Some(names) = &self.only_query {
            key = key.only_query(names.iter().cloned());
        }
        let key = self.headers.iter().cloned().fold(key, CacheKey::header);
        self.cookies.iter().fold(key, CacheKey::cookie)
    }
}

impl Rules {
    fn policy(&self) -> Policy {
        let mut policy = Policy::new();
        let spans: [(_, fn(Policy, Duration) -> Policy); 6] = [
            (self.fallback_ttl, Policy::fallback_ttl),
            (self.negative_ttl, Policy::negative_ttl),
            (self.max_ttl, Policy::max_ttl),
            (self.stale_while_revalidate, Policy::stale_while_revalidate),
            (self.stale_if_error, Policy::stale_if_error),
            (self.stale_if_unreachable, Policy::stale_if_unreachable),
        ];
        for (span, set) in spans {
            if let Some(Span(span)) = span {
                policy = set(policy, span);
            }
        }
        if let Some(obeys) = self.client_directives {
            policy = policy.client_directives(obeys);
        }
        if let Some(cookies) = self.set_cookie {
            policy = policy.set_cookie(match cookies {
                Cookies::Explicit => SetCookie::Explicit,
                Cookies::Refuse => SetCookie::Refuse,
                Cookies::Strip => SetCookie::Strip,
            });
        }
        if let Some(Heuristics { percent, limit }) = self.heuristics {
            policy = policy.heuristics(percent, limit);
        }
        policy
    }
}

/// Reads the arguments, without the name of the program.
pub(crate) fn command(arguments: impl IntoIterator<Item = String>) -> Result<Command, String> {
    let (mut listen, mut origins, mut file) = (None, Vec::new(), None);
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} wants a value"));
        match argument.as_str() {
            "--help" | "-h" => return Ok(Command::Help),
            "--listen" => listen = Some(read("--listen", &value()?)?),
            "--origin" => origins.push(Origin { url: value()?, priority: 0 }),
            "--config" => file = Some(value()?),
            _ => return Err(format!("{argument:?} is no option of mine\ntry --help")),
        }
    }
    let mut config = match file {
        Some(file) => Config::read(Path::new(&file))?,
        None => Config::default(),
    };
    config.listen = listen.unwrap_or(config.listen);
    config.origin.extend(origins);
    Ok(Command::Run(Box::new(config)))
}

fn read<T: FromStr<Err: std::fmt::Display>>(name: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|error| format!("{name} {text:?}: {error}"))
}

/// A whole number and its unit, by which it is multiplied.
fn quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(end);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// `500ms`, `2s`, `5m`, `1h`, `30d`.
#[derive(Clone, Copy, Debug)]
struct Span(Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let units = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
        let wrong =
            || D::Error::custom(format!("{text:?} is no span of time: write it like \"500ms\" or \"2s\""));
        quantity(&text, &units).map(|millis| Self(Duration::from_millis(millis))).ok_or_else(wrong)
    }
}

fn span<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    Span::deserialize(from).map(|Span(span)| span)
}

/// `64KiB`, `256MiB`, `10GiB`.
fn size<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let text = String::deserialize(from)?;
    let wrong = || D::Error::custom(format!("{text:?} is no size: write it like \"64KiB\" or \"10GiB\""));
    quantity(&text, &[("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)]).ok_or_else(wrong)
}

fn control<'de, D: Deserializer<'de>>(from: D) -> Result<Option<HeaderValue>, D::Error> {
    String::deserialize(from)?.parse().map(Some).map_err(D::Error::custom)
}

fn names<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<HeaderName>, D::Error> {
    let names = Vec::<String>::deserialize(from)?;
    names
        .iter()
        .map(|name| name.parse().map_err(|_| D::Error::custom(format!("{name:?} is no name of a header"))))
        .collect()
}
