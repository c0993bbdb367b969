//! Cookies that keep clients with their nodes.

use std::{fs, path::Path, str::FromStr, time::Duration};

use buttress::{
    cluster::Cluster,
    sticky::{CookieKeys, KeyError, Pins, SameSite, StickyCookie},
};
use serde::Deserialize;
use toml::Spanned;

use super::{
    problem::{Mistake, mistake},
    value::{parsed, span},
};

/// How clients are kept with their nodes.
#[derive(Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Sticky {
    enabled: bool,
    /// Secrets, or `file:` and the name of a file with one.
    keys: Vec<Spanned<String>>,
    cookie: Option<Spanned<String>>,
    #[serde(deserialize_with = "span")]
    max_idle: Duration,
    #[serde(deserialize_with = "span")]
    max_life: Duration,
    strict: bool,
    secure: bool,
    #[serde(deserialize_with = "parsed")]
    same_site: Site,
    /// The keys, once they are read.
    #[serde(skip)]
    loaded: Option<CookieKeys>,
}

impl Sticky {
    pub(super) fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// Reads the keys from files, whose names are relative to `directory`.
    pub(super) fn load(&mut self, directory: &Path) -> Result<(), Mistake> {
        if !self.enabled {
            return Ok(());
        }
        let secret = |key: &Spanned<String>| {
            let Some(file) = key.get_ref().strip_prefix("file:") else { return Ok(key.get_ref().clone()) };
            let text = fs::read_to_string(directory.join(file))
                .map_err(|error| mistake(key, format!("{file}: cannot read it: {error}")))?;
            Ok(text.trim().to_owned())
        };
        let secrets = self.keys.iter().map(secret).collect::<Result<Vec<_>, Mistake>>()?;
        let keys = CookieKeys::new(secrets).map_err(|error| {
            let index = match error {
                KeyError::TooShort { index, .. } | KeyError::Repeated { index } => index,
                // There is none, or the first one too many.
                _ => self.keys.len().saturating_sub(1),
            };
            let place = self.keys.get(index).map(Spanned::span);
            (place, format!("[sticky] {error}; make keys with `openssl rand -base64 32`"))
        })?;
        self.loaded = Some(keys);
        // Whatever the cluster's name: that is not what is checked here.
        match self.cookie("cluster") {
            Err((None, message)) => Err((self.cookie.as_ref().map(Spanned::span), message)),
            other => other.map(drop),
        }
    }

    /// The cookie of the cluster with this name.
    fn cookie(&self, cluster: &str) -> Result<Option<StickyCookie>, Mistake> {
        let Some(keys) = &self.loaded else { return Ok(None) };
        let Site(same_site) = self.same_site;
        let mut cookie = StickyCookie::builder(cluster, keys.clone())
            .max_idle(self.max_idle)
            .max_life(self.max_life)
            .same_site(same_site);
        if !self.secure {
            cookie = cookie.insecure();
        }
        if let Some(name) = &self.cookie {
            cookie = cookie.name(name.get_ref());
        }
        cookie.build().map(Some).map_err(|error| (None, format!("[sticky] {error}")))
    }

    /// Who belongs to which node of the cluster.
    pub(crate) fn pins<S: Send + Sync + 'static>(
        &self,
        name: &str,
        cluster: &Cluster<S>,
    ) -> Result<Option<Pins>, String> {
        let cookie = self.cookie(name).map_err(|(_, message)| message)?;
        let pins = cookie.map(|cookie| Pins::cookie(cookie, cluster));
        Ok(pins.map(|pins| if self.strict { pins.strict() } else { pins }))
    }
}

/// Which requests from other sites bring the cookie along.
#[derive(Clone, Copy, Debug, Default)]
struct Site(SameSite);

impl FromStr for Site {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "strict" => Ok(Self(SameSite::Strict)),
            "lax" => Ok(Self(SameSite::Lax)),
            "none" => Ok(Self(SameSite::None)),
            _ => Err(format!("{text:?} is none of \"strict\", \"lax\" and \"none\"")),
        }
    }
}

impl Default for Sticky {
    fn default() -> Self {
        Self {
            enabled: true,
            keys: Vec::new(),
            cookie: None,
            max_idle: Duration::from_secs(60 * 60),
            max_life: Duration::from_secs(24 * 60 * 60),
            strict: false,
            secure: true,
            same_site: Site::default(),
            loaded: None,
        }
    }
}

/// Without the secrets.
impl std::fmt::Debug for Sticky {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { enabled, max_idle, max_life, strict, secure, same_site: Site(same_site), .. } = self;
        f.debug_struct("Sticky")
            .field("enabled", enabled)
            .field("max_idle", max_idle)
            .field("max_life", max_life)
            .field("strict", strict)
            .field("secure", secure)
            .field("same_site", same_site)
            .finish_non_exhaustive()
    }
}
