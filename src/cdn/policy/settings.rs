//! What an operator may decide.

use std::time::Duration;

use http::HeaderName;

/// The rules of a shared cache, as RFC 9111 has them, and what an operator may decide about them.
///
/// The defaults add nothing to what origins say: no time to live of our own, heuristics only where section
/// 4.2.2 allows them.
#[derive(Clone, Debug)]
#[must_use]
pub struct Policy {
    pub(super) targets: Vec<HeaderName>,
    pub(super) is_surrogate: bool,
    pub(super) obeys_clients: bool,
    pub(super) set_cookie: SetCookie,
    pub(super) heuristic_percent: u32,
    pub(super) heuristic_limit: Duration,
    pub(super) fallback_ttl: Option<Duration>,
    pub(super) negative_ttl: Option<Duration>,
    pub(super) max_ttl: Option<Duration>,
    pub(super) stale_while_revalidate: Duration,
    pub(super) stale_if_error: Duration,
    pub(super) stale_if_unreachable: Duration,
    pub(super) max_head: usize,
    pub(super) checks_extensions: bool,
}

/// What becomes of responses that set cookies.
///
/// A cookie does not keep a response from being stored (RFC 9111, section 7.3), but one that was meant for a
/// single user and reaches all of them is a catastrophe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SetCookie {
    /// Stored if the origin says in the response how long it is fresh; never by heuristics or settings of ours.
    #[default]
    Explicit,
    /// Never stored.
    Refuse,
    /// Stored without `Set-Cookie`.
    Strip,
}

impl Policy {
    /// RFC 9111 to the letter, and nothing beyond it.
    pub fn new() -> Self {
        Self {
            targets: vec![HeaderName::from_static("cdn-cache-control")],
            is_surrogate: true,
            obeys_clients: true,
            set_cookie: SetCookie::default(),
            heuristic_percent: 10,
            heuristic_limit: Duration::from_secs(24 * 60 * 60),
            fallback_ttl: None,
            negative_ttl: None,
            max_ttl: None,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            stale_if_unreachable: Duration::from_secs(7 * 24 * 60 * 60),
            max_head: 64 * 1024,
            checks_extensions: false,
        }
    }

    /// Sets which targeted fields (RFC 9213) decide in place of `Cache-Control` and `Expires`, the first one
    /// that is there and valid (default: `CDN-Cache-Control`).
    pub fn targets(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.targets = names.into_iter().collect();
        self
    }

    /// Sets whether `Surrogate-Control` decides where no targeted field does (default: yes).
    pub fn surrogate_control(mut self, is_surrogate: bool) -> Self {
        self.is_surrogate = is_surrogate;
        self
    }

    /// Sets whether the `Cache-Control` of requests counts (default: yes). They are advice (RFC 9111, section
    /// 5.2.1), by which any client can have any response fetched anew; so most content delivery networks
    /// ignore them.
    pub fn client_directives(mut self, obeys_clients: bool) -> Self {
        self.obeys_clients = obeys_clients;
        self
    }

    /// Sets what becomes of responses with `Set-Cookie`.
    pub fn set_cookie(mut self, set_cookie: SetCookie) -> Self {
        self.set_cookie = set_cookie;
        self
    }

    /// Sets for which share of the time since it was modified a response is fresh that does not say (default:
    /// 10 per cent), and for how long at most (default: a day). With 0 there is no such guess (RFC 9111,
    /// section 4.2.2).
    pub fn heuristics(mut self, percent: u32, limit: Duration) -> Self {
        self.heuristic_percent = percent.min(100);
        self.heuristic_limit = limit;
        self
    }

    /// Sets how long a response is fresh that neither says so nor lets it be guessed (default: not at all).
    /// This is only for statuses that are cacheable heuristically, and for what sets no cookie.
    pub fn fallback_ttl(mut self, ttl: Duration) -> Self {
        self.fallback_ttl = Some(ttl);
        self
    }

    /// Sets how long the failures 404, 405, 410, 414, 451 and 500 to 504 are fresh that do not say so
    /// (default: by the rules above).
    pub fn negative_ttl(mut self, ttl: Duration) -> Self {
        self.negative_ttl = Some(ttl);
        self
    }

    /// Sets the longest time that anything is fresh, whatever its origin says (default: none).
    pub fn max_ttl(mut self, ttl: Duration) -> Self {
        self.max_ttl = Some(ttl);
        self
    }

    /// Sets for how long stale responses are used while they are validated, if they do not say so themselves
    /// (RFC 5861; default: not at all). Failures are not.
    pub fn stale_while_revalidate(mut self, window: Duration) -> Self {
        self.stale_while_revalidate = window;
        self
    }

    /// Sets for how long stale responses are used in place of an error 500, 502, 503 or 504, if they do not
    /// say so themselves (RFC 5861; default: not at all).
    pub fn stale_if_error(mut self, window: Duration) -> Self {
        self.stale_if_error = window;
        self
    }

    /// Sets for how long stale responses are used while the origin cannot be reached, or a gateway says so
    /// with 502, 503 or 504 (RFC 9111, sections 4.2.4 and 4.3.3; default: a week). What forbids it, such as
    /// `must-revalidate`, is obeyed.
    pub fn stale_if_unreachable(mut self, window: Duration) -> Self {
        self.stale_if_unreachable = window;
        self
    }

    /// Sets whether responses are refused whose media type does not fit the ending of the path, such as HTML
    /// under `/account/x.css` (default: no). This guards origins that send `Cache-Control` by the name alone
    /// against web cache deception.
    pub fn check_extensions(mut self, checks_extensions: bool) -> Self {
        self.checks_extensions = checks_extensions;
        self
    }

    /// Sets how many bytes the fields of a stored response may have (default: 64 KiB).
    pub fn max_head(mut self, bytes: usize) -> Self {
        self.max_head = bytes;
        self
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::new()
    }
}
