//! Routing: which service a request is for, by its host, its path, its method and its headers.
//!
//! [`Routes`] is the table: it is built from [`Rule`]s, each with a target of any type, and finds the target of a
//! request. [`Route`] is the service: it passes each request on to the service that the table names, and the table can
//! be replaced while it runs.
//!
//! ```
//! use buttress::route::{Routes, Rule};
//! use http::Request;
//!
//! let routes = Routes::new([
//!     (Rule::prefix("/"), "website"),
//!     (Rule::prefix("/").host("api.example.com"), "api"),
//!     (Rule::path("/users/{id}/orders").host("api.example.com"), "orders"),
//!     (Rule::path("/users/{id}/orders").host("api.example.com").header("x-canary", "yes"), "next orders"),
//! ])?;
//! let request = Request::get("https://api.example.com/users/7/orders?page=2").body(())?;
//! let found = routes.find(&request)?;
//! assert_eq!(*found.target(), "orders");
//! assert_eq!(found.param("id"), Some("7"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Which rule wins
//!
//! Never the order in which the rules are written. Of the rules that match a request, that one wins which says more, and
//! these are compared in turn:
//!
//! 1. **The host.** A name beats a wildcard, a wildcard with a longer suffix beats one with a shorter, either with the
//!    request's port beats the same without a port, and any of them beats a rule without a host. As in Envoy, the host is
//!    settled before anything else is looked at: once a request's host is known to the table, the rules of less specific
//!    hosts do not count for it, even if none of its own matches. So whoever adds a rule for all hosts adds nothing to a
//!    host that has rules of its own.
//! 2. **The path**, segment by segment from the left: where two patterns first differ, a literal beats a parameter, a
//!    parameter beats a tail (`{*rest}`), a tail beats a prefix that ends there, and the end of the path beats them all.
//!    So an exact path beats a template, and a template or a longer prefix beats a shorter prefix.
//! 3. **The conditions** on method and headers: more of them beat fewer. Of as many, those that ask for more of the same
//!    win: a value beats a prefix of it, which beats mere presence; some methods beat more methods.
//!
//! What is left are rules of which none says more, such as two that ask for one header each. If one request could match
//! both, and no third rule that asks for more takes such requests away, they are ambiguous: the table is not built, and
//! the error names both.
//!
//! A search takes a step for each matched segment of the path, however many rules there are. Where literals and
//! parameters stand side by side it may have to come back and try the parameter. The builder adds up how many steps that
//! can be for the worst of all paths, and refuses a table with more than [`Routes::MAX_STEPS`]. Rules that have host and
//! path pattern in common are tried one after the other.
//!
//! # Paths that can be read in two ways
//!
//! A rule protects nothing if a request can get around it, to a server that reads its path differently: `//admin`,
//! `/x/../admin`, `/%61dmin` and `/admin;x=1` all are `/admin` to some servers. So patterns match the path with its
//! percent-escapes decoded (once), as do nearly all servers, and paths on which servers do not agree are refused, as
//! [`BadPath`], which is answered with 400:
//!
//! | in the path | because |
//! |---|---|
//! | `//` | many servers merge slashes |
//! | `.` and `..` as segments, escaped or not | they are resolved (RFC 3986, section 5.2.4), or not |
//! | `;`, escaped or not | servlet containers cut it off, with all up to the next slash |
//! | `%2F`, `\`, `%5C` | some take them for a slash, before or after they split the path |
//! | control characters, escaped bytes that are not UTF-8, a `%` without two digits | some cut there, others guess |
//!
//! The path that is passed on is the one that was sent. [`Routes::verbatim`] reads paths byte by byte instead, for
//! servers that do so too, or whose paths hold such things, such as the `%2F` in names of npm packages. Both tell upper
//! case from lower case in paths: do not guard a server that does not by rules on paths.

mod conditions;
mod error;
mod future;
mod host;
mod path;
mod pattern;
mod routes;
mod rule;
mod service;
mod trie;

pub use error::{Error, Fault, RulesError, Unmatched};
pub use future::ResponseFuture;
pub use path::BadPath;
pub use routes::{Match, Matched, Routes};
pub use rule::Rule;
pub use service::Route;
