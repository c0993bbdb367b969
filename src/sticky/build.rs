//! How a cookie is set up.

use std::time::Duration;

use super::{
    CookieKeys, SameSite, StickyCookie,
    cookie::{PoolKey, Settings},
};

/// Half an hour is what most sessions live without use. A pin that is not due to be renewed lives for that long, too.
const MAX_IDLE: Duration = Duration::from_secs(60 * 60);

/// A draining node is empty after this long, whatever its clients do.
const MAX_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// Why a cookie cannot be set up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CookieError {
    /// The name is not one.
    #[error("{0:?} cannot be the name of a cookie: use up to 64 letters, digits and any of -_.~")]
    Name(String),
    /// The path is not one.
    #[error(
        "{0:?} cannot be the path of a cookie: begin it with / and use no space, semicolon or control character"
    )]
    Path(String),
    /// Browsers refuse cookies of this name that are not for the whole of a host, by TLS.
    #[error("browsers accept {0:?} only with `Secure` and the path /: choose a name with no such prefix")]
    Prefix(String),
    /// Browsers refuse such cookies.
    #[error("browsers accept `SameSite=None` only with `Secure`")]
    InsecureSameSite,
}

/// Sets up a [`StickyCookie`].
///
/// Unless told otherwise, it is `Path=/; HttpOnly; Secure; SameSite=Lax`, lasts until the browser is closed, and is
/// believed for at most an hour without use and a day in all.
#[derive(Clone, Debug)]
#[must_use = "`build` makes the cookie"]
pub struct CookieBuilder {
    pool: String,
    keys: CookieKeys,
    name: Option<String>,
    path: String,
    same_site: SameSite,
    is_secure: bool,
    is_persistent: bool,
    is_passed_on: bool,
    max_idle: Duration,
    max_life: Duration,
}

impl CookieBuilder {
    pub(super) fn new(pool: String, keys: CookieKeys) -> Self {
        Self {
            pool,
            keys,
            name: None,
            path: "/".into(),
            same_site: SameSite::default(),
            is_secure: true,
            is_persistent: false,
            is_passed_on: false,
            max_idle: MAX_IDLE,
            max_life: MAX_LIFE,
        }
    }

    /// Sets the cookie's name. Pools that share a host need a name each.
    ///
    /// Unless set it is the pool's name after `__Host-`, which keeps other hosts of the same domain from planting one
    /// (RFC 6265bis, section 4.1.3.2), or the pool's name alone where that prefix is not allowed.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets below which path clients send it (default: `/`).
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    /// Sets which requests from other sites bring it along (default: [`Lax`](SameSite::Lax)).
    pub fn same_site(mut self, same_site: SameSite) -> Self {
        self.same_site = same_site;
        self
    }

    /// Leaves out `Secure`, for sites without TLS: anyone on the way may then read the cookie.
    pub fn insecure(mut self) -> Self {
        self.is_secure = false;
        self
    }

    /// Sets how long it is believed without being used (default: 1 hour), to the second; 0 counts as 1.
    ///
    /// It is renewed when more than half of that has passed, so it changes rarely; a client keeps its node through a break
    /// of up to half of it, and through one of up to all of it if the cookie is fresh. `Duration::MAX` sets no limit.
    pub fn max_idle(mut self, time: Duration) -> Self {
        self.max_idle = time;
        self
    }

    /// Sets how long it is believed in all (default: 1 day), to the second; 0 counts as 1.
    ///
    /// After that the client gets a new node, and a draining node has none of its clients left. `Duration::MAX` sets no
    /// limit.
    pub fn max_life(mut self, time: Duration) -> Self {
        self.max_life = time;
        self
    }

    /// Lets browsers keep it when they are closed, for as long as it would be believed: `Max-Age`.
    pub fn persistent(mut self) -> Self {
        self.is_persistent = true;
        self
    }

    /// Lets the nodes see it. Unless set, it is taken out of the requests that they get.
    pub fn pass_on(mut self) -> Self {
        self.is_passed_on = true;
        self
    }

    /// The cookie.
    ///
    /// # Errors
    /// If no browser would accept it.
    pub fn build(self) -> Result<StickyCookie, CookieError> {
        let is_whole_host = self.is_secure && self.path == "/";
        let prefix = if is_whole_host { "__Host-" } else { "" };
        let name = self.name.unwrap_or_else(|| format!("{prefix}{}", self.pool));
        if name.is_empty() || name == prefix || name.len() > 64 || !name.bytes().all(is_plain) {
            return Err(CookieError::Name(name));
        }
        let visible = |byte: u8| byte.is_ascii_graphic() && byte != b';';
        if !self.path.starts_with('/') || !self.path.bytes().all(visible) {
            return Err(CookieError::Path(self.path));
        }
        // Browsers compare these prefixes in any case.
        let begins = |prefix: &str| name.get(..prefix.len()).is_some_and(|n| n.eq_ignore_ascii_case(prefix));
        if (begins("__Host-") && !is_whole_host) || (begins("__Secure-") && !self.is_secure) {
            return Err(CookieError::Prefix(name));
        }
        if self.same_site == SameSite::None && !self.is_secure {
            return Err(CookieError::InsecureSameSite);
        }
        let secure = if self.is_secure { "; Secure" } else { "" };
        let attributes = format!("; Path={}; HttpOnly{secure}; SameSite={:?}", self.path, self.same_site);
        Ok(StickyCookie::with(Settings {
            name,
            keys: PoolKey::all(&self.keys, &self.pool),
            pool: self.pool,
            attributes,
            is_persistent: self.is_persistent,
            is_passed_on: self.is_passed_on,
            max_idle: self.max_idle.as_secs().max(1),
            max_life: self.max_life.as_secs().max(1),
        }))
    }
}

/// Narrower than a token (RFC 9110, section 5.6.2), so that every server reads it the same.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn keys() -> CookieKeys {
        CookieKeys::new([[1; 32]]).unwrap()
    }

    fn builder() -> CookieBuilder {
        StickyCookie::builder("shop", keys())
    }

    /// What a browser is told after the value.
    fn attributes(builder: CookieBuilder) -> String {
        let cookie = builder.build().unwrap();
        let line = cookie.set(&"a".into(), None, SystemTime::UNIX_EPOCH).unwrap();
        let (pair, attributes) = line.to_str().unwrap().split_once("; ").unwrap();
        assert_eq!(pair.split_once('=').unwrap().0, cookie.name());
        attributes.to_owned()
    }

    #[test]
    fn scripts_other_sites_and_plain_http_do_not_get_the_cookie() {
        assert_eq!(attributes(builder()), "Path=/; HttpOnly; Secure; SameSite=Lax");
        let strict = builder().path("/app").same_site(SameSite::Strict);
        assert_eq!(attributes(strict), "Path=/app; HttpOnly; Secure; SameSite=Strict");
        assert_eq!(attributes(builder().insecure()), "Path=/; HttpOnly; SameSite=Lax");
    }

    #[test]
    fn a_persistent_cookie_lives_as_long_as_it_is_believed() {
        let max_age = |builder: CookieBuilder| {
            attributes(builder.persistent()).rsplit_once("; Max-Age=").unwrap().1.parse::<u64>().unwrap()
        };
        assert_eq!(max_age(builder()), 3600);
        assert_eq!(max_age(builder().max_life(Duration::from_secs(60))), 60);
        assert_eq!(max_age(builder().max_life(Duration::MAX).max_idle(Duration::MAX)), 400 * 24 * 3600);
        let cookie = builder().persistent().build().unwrap();
        let issued = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let value = cookie.issue(&"a".into(), issued);
        let mut now = issued + Duration::from_secs(3600);
        let mut pin = cookie.verify(value.as_bytes(), now).unwrap();
        for _ in 0..22 {
            let value = cookie.renew(&"a".into(), &pin, now);
            now += Duration::from_secs(3600);
            pin = cookie.verify(value.as_bytes(), now).unwrap();
        }
        now += Duration::from_secs(1000);
        let line = cookie.set(&"a".into(), Some(&pin), now).unwrap();
        assert!(line.to_str().unwrap().ends_with("; Max-Age=2600"), "what is left of the day: {line:?}");
    }

    #[test]
    fn names_say_how_safe_they_are() {
        let name = |builder: CookieBuilder| builder.build().map(|cookie| cookie.name().to_owned());
        assert_eq!(name(builder()).unwrap(), "__Host-shop");
        assert_eq!(name(builder().insecure()).unwrap(), "shop");
        assert_eq!(name(builder().path("/app")).unwrap(), "shop");
        assert_eq!(name(builder().name("node")).unwrap(), "node");
        let prefix = |builder: CookieBuilder, prefixed: &str| {
            assert_eq!(name(builder.name(prefixed)), Err(CookieError::Prefix(prefixed.into())));
        };
        prefix(builder().insecure(), "__Host-shop");
        prefix(builder().path("/app"), "__host-shop");
        prefix(builder().insecure(), "__Secure-shop");
        assert!(name(builder().path("/app").name("__Secure-shop")).is_ok());
    }

    #[test]
    fn what_would_break_out_of_the_header_is_refused() {
        for name in ["", "a b", "a=b", "a;b", "a\r\nb", "é", &"a".repeat(65)] {
            assert_eq!(builder().name(name).build().unwrap_err(), CookieError::Name(name.into()));
        }
        assert!(matches!(StickyCookie::new("", keys()), Err(CookieError::Name(_))));
        for path in ["", "app", "/a;Domain=x", "/a\r\nb", "/a b", "/é"] {
            assert_eq!(builder().path(path).build().unwrap_err(), CookieError::Path(path.into()));
        }
        let embedded = builder().same_site(SameSite::None);
        assert!(embedded.clone().build().is_ok());
        assert_eq!(embedded.insecure().build().unwrap_err(), CookieError::InsecureSameSite);
    }
}
