use super::{BadPath, Routes, Rule};

/// Why a table of routes cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RulesError {
    /// A rule makes no sense.
    #[error("rule `{rule}`: {fault}")]
    Malformed {
        /// The rule.
        rule: Box<Rule>,
        /// What is wrong with it.
        #[source]
        fault: Fault,
    },
    /// One request could match both rules, and neither says more than the other.
    #[error(
        "rules `{first}` and `{second}` match the same requests: ask for more in one of them, or add a rule that asks \
         for what both ask for"
    )]
    Ambiguous {
        /// The one.
        first: Box<Rule>,
        /// The other.
        second: Box<Rule>,
    },
    /// Literals and parameters stand side by side so often that a search could take more than [`Routes::MAX_STEPS`].
    #[error(
        "a search could take {steps} steps, and {} are allowed: let fewer parameters stand beside literals",
        Routes::<()>::MAX_STEPS
    )]
    Tangled {
        /// How many it could take.
        steps: usize,
    },
}

/// What is wrong with a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The path does not begin with a slash.
    #[error("the path must begin with a slash")]
    NoLeadingSlash,
    /// The prefix ends with a slash.
    #[error("the prefix must not end with a slash: it matches whole segments anyway")]
    TrailingSlash,
    /// The path has two slashes in a row.
    #[error("the path has an empty segment")]
    EmptySegment,
    /// The path has more segments than are allowed.
    #[error("the path has more than {limit} segments")]
    TooDeep {
        /// How many are allowed.
        limit: usize,
    },
    /// Curly brackets that are no parameter.
    #[error(
        "`{0}` is no parameter: write `{{name}}` for a whole segment, or `{{*name}}` for the rest of a path"
    )]
    Parameter(String),
    /// Two parameters have the same name.
    #[error("parameter `{0}` occurs twice")]
    DuplicateParameter(String),
    /// The path goes on with a query or a fragment.
    #[error("the path has a query or a fragment, which rules do not look at")]
    Query,
    /// No request that is let in has such a path.
    #[error("no request could match: {0}")]
    Path(#[from] BadPath),
    /// The host is none.
    #[error("`{0}` is no host: write a name such as `example.com`, or `*.example.com` for all names below")]
    Host(String),
    /// The header's name is none, or is `Host`.
    #[error("`{0}` is no header that a rule can ask for")]
    Header(String),
    /// No header has such a value.
    #[error("header `{0}` cannot have that value")]
    HeaderValue(String),
    /// The rule asks twice for the same header.
    #[error("header `{0}` is asked for twice")]
    DuplicateHeader(String),
    /// The path cannot be rewritten to this, or it is not a prefix that is rewritten.
    #[error("`{0}` cannot be put in place of the path: give a path, to a rule for a prefix")]
    Rewrite(String),
}

/// Why a request has no target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Unmatched {
    /// No rule matches.
    #[error("no route matches")]
    NoRoute,
    /// The host is malformed, or there are two.
    #[error("the host is malformed")]
    BadHost,
    /// The path means different things to different servers.
    #[error(transparent)]
    BadPath(#[from] BadPath),
}

/// Why [`Route`](super::Route) has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error<E> {
    /// The request was sent nowhere.
    #[error("{0}")]
    Unmatched(#[from] Unmatched),
    /// The service that the request is for failed.
    #[error("the service failed")]
    Service(#[source] E),
}

#[cfg(feature = "proxy")]
mod status {
    use std::time::Duration;

    use http::StatusCode;

    use super::{Error, Unmatched};
    use crate::forward::ProxyError;

    /// 404 where there is no route, 400 for what cannot be read with certainty.
    impl ProxyError for Unmatched {
        fn status(&self) -> StatusCode {
            match self {
                Self::NoRoute => StatusCode::NOT_FOUND,
                Self::BadHost | Self::BadPath(_) => StatusCode::BAD_REQUEST,
            }
        }
    }

    impl<E: ProxyError> ProxyError for Error<E> {
        fn status(&self) -> StatusCode {
            match self {
                Self::Unmatched(error) => error.status(),
                Self::Service(error) => error.status(),
            }
        }

        fn retry_after(&self) -> Option<Duration> {
            match self {
                Self::Unmatched(error) => error.retry_after(),
                Self::Service(error) => error.retry_after(),
            }
        }
    }
}
