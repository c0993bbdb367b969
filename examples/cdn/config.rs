//! The command line and the configuration file. Everything is checked as it is read.

use std::{net::SocketAddr, path::Path, str::FromStr, time::Duration};

use buttress::cdn::{CacheKey, Cdn, Policy};
use hyper::http::HeaderValue;
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
    headers: Vec<String>,
}

/// What holds for URLs whose path begins like this, whatever their origin says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Route {
    prefix: String,
    #[serde(deserialize_with = "control")]
    cache_control: HeaderValue,
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
        cdn = cdn.policy(Policy::new()).key(CacheKey::new());
        for Route { prefix, cache_control } in &self.route {
            let (prefix, cache_control) = (prefix.clone(), cache_control.clone());
            // It holds for this cache; what goes on to browsers is what the origin said.
            cdn = cdn.override_response(move |request, response| {
                if request.uri.path().starts_with(&prefix) {
                    response.headers.insert("cdn-cache-control", cache_control.clone());
                }
            });
        }
        cdn.build()
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
fn span<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    let units = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    let wrong =
        || D::Error::custom(format!("{text:?} is no span of time: write it like \"500ms\" or \"2s\""));
    quantity(&text, &units).map(Duration::from_millis).ok_or_else(wrong)
}

/// `64KiB`, `256MiB`, `10GiB`.
fn size<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let text = String::deserialize(from)?;
    let wrong =
        || D::Error::custom(format!("{text:?} is no size: write it like \"64KiB\", \"256MiB\" or \"10GiB\""));
    quantity(&text, &[("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)]).ok_or_else(wrong)
}

fn control<'de, D: Deserializer<'de>>(from: D) -> Result<HeaderValue, D::Error> {
    String::deserialize(from)?.parse().map_err(D::Error::custom)
}
