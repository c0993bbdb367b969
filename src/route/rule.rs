//! One rule, as it is written.

use std::fmt;

use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method};

use super::Fault;
use super::conditions::{Conditions, Value};
use super::host::HostPattern;
use super::path::Reading;
use super::pattern::Pattern;

/// Which requests are meant: all conditions must hold.
///
/// What is wrong with a rule is said by [`Routes::new`](super::Routes::new). Which rule wins where several match is told
/// in the [module's documentation](super#which-rule-wins).
///
/// ```
/// use buttress::route::Rule;
/// use http::Method;
///
/// let rule = Rule::prefix("/api").host("example.com").host("*.example.com").method(Method::GET).header("x-canary", "yes");
/// assert_eq!(rule.to_string(), "GET example.com,*.example.com/api/* [x-canary: yes]");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    path: String,
    is_prefix: bool,
    hosts: Vec<String>,
    methods: Vec<Method>,
    headers: Vec<(String, Value)>,
    rewrite: Option<String>,
}

impl Rule {
    /// Requests for this path.
    ///
    /// A segment may be a parameter, `{id}`, which matches anything but an empty segment; the last one may be a tail,
    /// `{*rest}`, which matches what is left of the path, if that is not empty. A slash at the end counts: `/a/` is not
    /// `/a`. Escapes may be written out or not: `/café` is `/caf%C3%A9`. Upper case is not lower case.
    pub fn path(pattern: impl Into<String>) -> Self {
        Self::new(pattern.into(), false)
    }

    /// Requests for this path and all below, by whole segments: `/api` matches `/api`, `/api/` and `/api/users`, not
    /// `/apis`. `/` matches every path. Segments may be parameters.
    pub fn prefix(pattern: impl Into<String>) -> Self {
        Self::new(pattern.into(), true)
    }

    fn new(path: String, is_prefix: bool) -> Self {
        let (hosts, methods, headers) = (Vec::new(), Vec::new(), Vec::new());
        Self { path, is_prefix, hosts, methods, headers, rewrite: None }
    }

    /// Only requests for this host, or for one of several. Without any, for every host.
    ///
    /// `*.example.com` stands for all names with one or more labels in front of `.example.com`, and not for
    /// `example.com` itself. Upper case is lower case, a dot at the end says nothing. With a port, `example.com:8443`,
    /// the request must name that port; without, it may name any. Names in other scripts are written as DNS has them,
    /// `xn--…`.
    #[must_use]
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.hosts.push(host.into());
        self
    }

    /// Only requests with this method, or with one of several.
    #[must_use]
    pub fn method(mut self, method: Method) -> Self {
        self.methods.push(method);
        self
    }

    /// Only requests with this header and this very value, in one line.
    #[must_use]
    pub fn header(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.ask(name.into(), Value::Exact(value.into()))
    }

    /// Only requests with this header and a value that begins so, in one line.
    #[must_use]
    pub fn header_prefix(self, name: impl Into<String>, prefix: impl Into<String>) -> Self {
        self.ask(name.into(), Value::Prefix(prefix.into()))
    }

    /// Only requests with this header, whatever its value.
    #[must_use]
    pub fn header_present(self, name: impl Into<String>) -> Self {
        self.ask(name.into(), Value::Present)
    }

    fn ask(mut self, name: String, value: Value) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Passes requests on with this path in place of the prefix: with `/v2` for `/api`, `/api/users` becomes
    /// `/v2/users`; with `/`, it becomes `/users`. Only for rules for a prefix.
    #[must_use]
    pub fn rewrite(mut self, path: impl Into<String>) -> Self {
        self.rewrite = Some(path.into());
        self
    }

    /// The path as it was given, such as `/users/{id}`: a label for logs and metrics that no client can make up.
    pub fn pattern(&self) -> &str {
        &self.path
    }

    pub(super) fn compile(&self, reading: Reading) -> Result<Compiled, Fault> {
        let pattern = if self.is_prefix { Pattern::prefix } else { Pattern::path };
        let pattern = pattern(&self.path, reading)?;
        let mut hosts = Vec::with_capacity(self.hosts.len());
        for host in &self.hosts {
            let host = HostPattern::parse(host)?;
            if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        let mut headers: Vec<(HeaderName, Value)> = Vec::with_capacity(self.headers.len());
        for (name, value) in &self.headers {
            let parsed = header(name, value)?;
            if headers.iter().any(|(other, _)| *other == parsed) {
                return Err(Fault::DuplicateHeader(name.clone()));
            }
            headers.push((parsed, value.clone()));
        }
        let conditions = Conditions::new(&self.methods, headers);
        let rewrite = self.rewrite.as_ref().map(|path| self.compile_rewrite(path, reading)).transpose()?;
        Ok(Compiled { pattern, hosts, conditions, rewrite })
    }

    fn compile_rewrite(&self, path: &str, reading: Reading) -> Result<String, Fault> {
        let fault = || Fault::Rewrite(path.to_owned());
        let parsed: PathAndQuery = path.parse().map_err(|_| fault())?;
        if !self.is_prefix || !path.starts_with('/') || parsed.path() != path || reading.read(path).is_err() {
            return Err(fault());
        }
        Ok(path.strip_suffix('/').unwrap_or(path).to_owned())
    }
}

fn header(name: &str, value: &Value) -> Result<HeaderName, Fault> {
    let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Fault::Header(name.to_owned()))?;
    if parsed == http::header::HOST {
        return Err(Fault::Header(name.to_owned()));
    }
    let possible = match value {
        Value::Present => true,
        Value::Prefix(text) => HeaderValue::from_str(text).is_ok() && text.trim_start() == text,
        Value::Exact(text) => HeaderValue::from_str(text).is_ok() && text.trim() == text,
    };
    if possible { Ok(parsed) } else { Err(Fault::HeaderValue(name.to_owned())) }
}

/// A rule that makes sense.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) pattern: Pattern,
    pub(super) hosts: Vec<HostPattern>,
    pub(super) conditions: Conditions,
    /// What is put in place of the prefix, without a slash at its end.
    pub(super) rewrite: Option<String>,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.methods.is_empty() {
            let methods: Vec<_> = self.methods.iter().map(Method::as_str).collect();
            write!(f, "{} ", methods.join(","))?;
        }
        f.write_str(&self.hosts.join(","))?;
        f.write_str(if self.is_prefix { self.path.trim_end_matches('/') } else { &self.path })?;
        if self.is_prefix {
            f.write_str("/*")?;
        }
        for (name, value) in &self.headers {
            match value {
                Value::Present => write!(f, " [{name}]")?,
                Value::Prefix(prefix) => write!(f, " [{name}: {prefix}*]")?,
                Value::Exact(value) => write!(f, " [{name}: {value}]")?,
            }
        }
        Ok(())
    }
}
