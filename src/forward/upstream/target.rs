use std::fmt;
use std::str::FromStr;

use http::Uri;
use http::uri::{Authority, PathAndQuery, Scheme};

use super::{UpstreamError, UpstreamErrorKind};

/// Where requests go: a server and the path in front of theirs.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) scheme: Scheme,
    pub(super) authority: Authority,
    /// Without a slash at its end.
    base: String,
}

impl Target {
    pub(super) fn has_tls(&self) -> bool {
        self.scheme == Scheme::HTTPS
    }

    /// The server's name or address, without the brackets around one of IPv6.
    #[cfg(feature = "tls")]
    pub(super) fn host(&self) -> &str {
        self.authority.host().trim_start_matches('[').trim_end_matches(']')
    }

    /// The path of a request, with the base in front.
    pub(super) fn path(&self, asked: &Uri) -> Result<PathAndQuery, UpstreamError> {
        let asked = asked.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        // "OPTIONS *" asks about the server as a whole.
        if self.base.is_empty() || asked.path() == "*" {
            return Ok(asked);
        }
        PathAndQuery::try_from(format!("{}{asked}", self.base))
            .map_err(|error| UpstreamError::new(UpstreamErrorKind::Request, error))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority, self.base)
    }
}

impl FromStr for Target {
    type Err = UpstreamUrlError;

    fn from_str(base: &str) -> Result<Self, UpstreamUrlError> {
        Self::parse(base, cfg!(feature = "tls"))
    }
}

impl Target {
    fn parse(base: &str, has_tls: bool) -> Result<Self, UpstreamUrlError> {
        let uri: Uri = base.parse().map_err(|_| UpstreamUrlError::NoUrl(base.to_owned()))?;
        let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
            return Err(UpstreamUrlError::NoUrl(base.to_owned()));
        };
        if *scheme == Scheme::HTTPS && !has_tls {
            return Err(UpstreamUrlError::NeedsTls);
        }
        if *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS {
            return Err(UpstreamUrlError::Scheme(scheme.to_string()));
        }
        if authority.as_str().contains('@') || uri.query().is_some() {
            return Err(UpstreamUrlError::TooMuch);
        }
        // "http://a:99999" would otherwise go to the port of the scheme.
        let port = authority.as_str().strip_prefix(authority.host()).and_then(|rest| rest.strip_prefix(':'));
        if port.is_some_and(|port| !port.is_empty() && !port.parse().is_ok_and(|port: u16| port > 0)) {
            return Err(UpstreamUrlError::NoUrl(base.to_owned()));
        }
        let base = uri.path().trim_end_matches('/').to_owned();
        Ok(Self { scheme: scheme.clone(), authority: authority.clone(), base })
    }
}

/// Why a text is not the base URL of an [`Upstream`](super::Upstream).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpstreamUrlError {
    /// No scheme, no host, or no URL at all.
    #[error("{0:?} is not the URL of a server: write it like http://10.0.0.7:8080")]
    NoUrl(String),
    /// A scheme other than `http` and `https`.
    #[error("the scheme {0:?} is not supported: servers are reached over http or https")]
    Scheme(String),
    /// `https`, which this program was built without.
    #[error("servers are reached over https with the feature `tls` of buttress, which is not enabled")]
    NeedsTls,
    /// A host or a given name that no certificate can be checked for.
    #[error("{0:?} cannot be the name in a server's certificate: give a DNS name or an IP address")]
    ServerName(String),
    /// No certificate to check those of servers with.
    #[error(
        "there are no root certificates to check https servers with ({0}): install those of the system, or give some \
         with `UpstreamBuilder::tls`"
    )]
    NoRoots(String),
    /// Credentials or a query.
    #[error("the URL of a server has no user name and no query: put credentials into a header")]
    TooMuch,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(base: &str, asked: &str) -> String {
        let target: Target = base.parse().unwrap();
        target.path(&asked.parse().unwrap()).unwrap().to_string()
    }

    #[test]
    fn the_base_path_goes_in_front() {
        assert_eq!(path("http://a", "/x?q=1"), "/x?q=1");
        assert_eq!(path("http://a/", "http://other/x"), "/x");
        assert_eq!(path("http://[::1]:80", "/x"), "/x");
        assert_eq!(path("http://a:", "/x"), "/x");
        assert_eq!(path("http://a/api", "/x?q=1"), "/api/x?q=1");
        assert_eq!(path("http://a/api//", "/"), "/api/");
        assert_eq!(path("http://a/api", "http://other"), "/api/");
        assert_eq!(path("http://a/api", "http://other?q"), "/api/?q");
        assert_eq!(path("http://a/api", "/%2e%2E//x"), "/api/%2e%2E//x");
        assert_eq!(path("http://a/api", "*"), "*");
    }

    #[test]
    fn what_is_no_base_url_is_refused_with_a_remedy() {
        let refused = |base: &str| base.parse::<Target>().err().unwrap();
        for base in [
            "",
            "a:80",
            "/x",
            "10.0.0.7",
            "http://",
            "http://a b",
            "http://a:99999",
            "http://a:0",
            "http://[::1]:0",
        ] {
            assert!(matches!(refused(base), UpstreamUrlError::NoUrl(_)), "{base}");
        }
        assert_eq!(refused("ftp://a"), UpstreamUrlError::Scheme("ftp".into()));
        assert_eq!(refused("http://user:pw@a"), UpstreamUrlError::TooMuch);
        assert_eq!(refused("http://a/?q"), UpstreamUrlError::TooMuch);
    }

    #[test]
    fn https_without_tls_names_the_feature() {
        let refused = Target::parse("https://a", false).err().unwrap();
        assert_eq!(refused, UpstreamUrlError::NeedsTls);
        assert!(refused.to_string().contains("feature `tls`"));
        assert_eq!(Target::parse("https://a:1/x/", true).unwrap().to_string(), "https://a:1/x");
    }
}
