//! Taking out what is stored.

/// What to purge.
///
/// ```
/// use buttress::cdn::Purge;
///
/// # fn main() -> Result<(), buttress::cdn::InvalidPurge> {
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
    Url(String),
    Prefix(String),
    Tag(String),
    All,
}

/// Something that cannot be purged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot purge {0:?}")]
pub struct InvalidPurge(String);

impl Purge {
    /// All variants of a URL.
    ///
    /// # Errors
    /// If it is no URL.
    pub fn url(url: impl Into<String>) -> Result<Self, InvalidPurge> {
        Ok(Self { what: What::Url(url.into()), soft: false })
    }

    /// All URLs that begin like this.
    ///
    /// # Errors
    /// If no URL begins like this.
    pub fn prefix(prefix: impl Into<String>) -> Result<Self, InvalidPurge> {
        Ok(Self { what: What::Prefix(prefix.into()), soft: false })
    }

    /// All that has this tag in `Cache-Tag` or `Surrogate-Key`.
    ///
    /// # Errors
    /// If no response can have such a tag.
    pub fn tag(tag: impl Into<String>) -> Result<Self, InvalidPurge> {
        Ok(Self { what: What::Tag(tag.into()), soft: false })
    }

    /// Everything.
    pub const fn all() -> Self {
        Self { what: What::All, soft: false }
    }

    /// Marks it stale instead of taking it out: the origin is asked whether it is still good, and it may be served while that
    /// is going on or the origin is down, as far as the response allows it.
    pub fn soft(mut self) -> Self {
        self.soft = true;
        self
    }
}
