//! Taking out what is stored.

mod json;
mod order;
#[cfg(feature = "redis")]
pub(crate) mod relay;
mod service;

use http::Uri;

#[cfg(feature = "redis")]
pub use self::relay::{PurgeRelay, RelayError};
pub use self::service::{InvalidToken, PurgeFuture, PurgeService};

/// What to purge, and how.
///
/// ```
/// use buttress::cdn::Purge;
///
/// # fn main() -> Result<(), buttress::cdn::InvalidPurge> {
/// let page = Purge::url("https://example.com/socks")?;
/// let folder = Purge::prefix("https://example.com/images/")?;
/// let everything_about_socks = Purge::tag("socks")?.soft();
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Purge {
    what: What,
    soft: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Url(Uri),
    Prefix(String),
    Tag(String),
    All,
}

/// Something that cannot be purged, as nothing can be stored by it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPurge {
    /// It is no URL.
    #[error("{0:?} is no URL: say what a client asks for, as in \"https://example.com/path\"")]
    Url(String),
    /// No URL begins like this.
    #[error("no URL begins with {0:?}: say \"https://example.com/path\", or \"/path\" for every host")]
    Prefix(String),
    /// No response can have this tag.
    #[error("{0:?} is no tag: say one, without commas")]
    Tag(String),
    /// It is longer than anything that is stored.
    #[error("{0} bytes are too long for a URL or a tag")]
    TooLong(usize),
}

/// No URL, and no tag, is longer.
const LONGEST: usize = 64 << 10;

impl Purge {
    /// All variants of a URL: with every value of the fields and cookies in the key, and every one that `Vary` names.
    ///
    /// # Errors
    /// If it is no URL.
    pub fn url(url: impl Into<String>) -> Result<Self, InvalidPurge> {
        let url = bounded(url.into())?;
        let is_whole =
            |uri: &Uri| uri.authority().is_some() == uri.scheme().is_some() && uri.path().starts_with('/');
        match url.parse() {
            Ok(uri) if is_whole(&uri) => Ok(Self::hard(What::Url(uri))),
            _ => Err(InvalidPurge::Url(url)),
        }
    }

    /// All URLs that begin like this: `https://example.com/images/` those of one host, `/images/` those of every host.
    ///
    /// A query is compared as it is in the [key](super::CacheKey): sorted, and without what is left out.
    ///
    /// # Errors
    /// If no URL begins like this.
    pub fn prefix(prefix: impl Into<String>) -> Result<Self, InvalidPurge> {
        let prefix = bounded(prefix.into())?;
        let has_host = prefix.split_once("://").is_some_and(|(scheme, rest)| {
            ["http", "https"].iter().any(|it| scheme.eq_ignore_ascii_case(it))
                && !rest.starts_with('/')
                && !rest.is_empty()
        });
        let is_clean = !prefix.bytes().any(|byte| byte == b' ' || byte.is_ascii_control());
        if is_clean && (has_host || prefix.starts_with('/')) {
            Ok(Self::hard(What::Prefix(prefix)))
        } else {
            Err(InvalidPurge::Prefix(prefix))
        }
    }

    /// All that has this tag in `Cache-Tag` or `Surrogate-Key`.
    ///
    /// # Errors
    /// If no response can have such a tag.
    pub fn tag(tag: impl Into<String>) -> Result<Self, InvalidPurge> {
        let tag = bounded(tag.into())?;
        let is_clean = tag.trim() == tag && !tag.bytes().any(|byte| byte == b',' || byte.is_ascii_control());
        if tag.is_empty() || !is_clean {
            return Err(InvalidPurge::Tag(tag));
        }
        Ok(Self::hard(What::Tag(tag)))
    }

    /// Everything.
    pub const fn all() -> Self {
        Self::hard(What::All)
    }

    /// Marks it stale instead of taking it out: the origin is asked whether it is still good, and it may be served while that
    /// is going on or the origin is down, as far as the response allows it.
    pub fn soft(mut self) -> Self {
        self.soft = true;
        self
    }

    pub(crate) fn with_soft(mut self, soft: bool) -> Self {
        self.soft = soft;
        self
    }

    const fn hard(what: What) -> Self {
        Self { what, soft: false }
    }

    pub(crate) fn what(&self) -> &What {
        &self.what
    }

    pub(crate) fn is_soft(&self) -> bool {
        self.soft
    }
}

fn bounded(text: String) -> Result<String, InvalidPurge> {
    if text.len() > LONGEST { Err(InvalidPurge::TooLong(text.len())) } else { Ok(text) }
}
