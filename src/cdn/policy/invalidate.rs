//! What an unsafe method changes (RFC 9111, section 4.4).

use http::{
    Method, Uri,
    header::{CONTENT_LOCATION, HOST, LOCATION},
    request, response,
    uri::{Authority, PathAndQuery},
};

use super::Policy;
use crate::cdn::field::lines;

impl Policy {
    /// The URIs whose stored responses an answer makes invalid: the target of an unsafe request that did not
    /// fail, and what `Location` and `Content-Location` name on the same origin. They have the form that the
    /// request's own URI has.
    pub fn invalidates(&self, request: &request::Parts, response: &response::Parts) -> Vec<Uri> {
        let is_success = response.status.is_success() || response.status.is_redirection();
        if is_safe(&request.method) || !is_success {
            return Vec::new();
        }
        let mut uris = vec![request.uri.clone()];
        for name in [LOCATION, CONTENT_LOCATION] {
            for reference in lines(&response.headers, &name).take(1) {
                let uri = resolve(request, reference).and_then(|target| with_target(&request.uri, target));
                uris.extend(uri.filter(|uri| *uri != request.uri));
            }
        }
        uris
    }
}

fn is_safe(method: &Method) -> bool {
    // QUERY and the WebDAV methods that only read are safe too (RFC 9110, section 9.2.1; the IANA's registry
    // of methods).
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE)
        || matches!(method.as_str(), "PROPFIND" | "REPORT" | "SEARCH" | "QUERY" | "PRI")
}

/// Whether a reference names the target of a request.
pub(super) fn names_target(request: &request::Parts, reference: &[u8]) -> bool {
    let target = request.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    resolve(request, reference).is_some_and(|named| named.as_str() == target)
}

fn with_target(uri: &Uri, target: PathAndQuery) -> Option<Uri> {
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(target);
    Uri::from_parts(parts).ok()
}

/// Resolves a reference against the target of a request (RFC 3986, section 5). `None` if it is of another
/// origin, or makes no sense.
fn resolve(request: &request::Parts, reference: &[u8]) -> Option<PathAndQuery> {
    let reference = std::str::from_utf8(reference).ok()?.trim();
    let reference = reference.split_once('#').map_or(reference, |(before, _)| before);
    let base = request.uri.path_and_query();
    let path = base.map_or("/", PathAndQuery::path);
    let target = if let Some((scheme, rest)) = absolute(reference) {
        let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        is_same_origin(request, scheme, authority)?;
        if target.starts_with('/') { without_dots(target) } else { format!("/{target}") }
    } else if reference.is_empty() {
        return Some(base.cloned().unwrap_or_else(|| PathAndQuery::from_static("/")));
    } else if reference.starts_with('/') {
        without_dots(reference)
    } else if reference.starts_with('?') {
        format!("{path}{reference}")
    } else if reference.split(['/', '?']).next().is_some_and(|segment| segment.contains(':')) {
        return None;
    } else {
        let folder = &path[..=path.rfind('/')?];
        without_dots(&format!("{folder}{reference}"))
    };
    target.parse().ok()
}

/// The scheme, if there is one, and what follows `//`.
fn absolute(reference: &str) -> Option<(Option<&str>, &str)> {
    if let Some(rest) = reference.strip_prefix("//") {
        return Some((None, rest));
    }
    let (scheme, rest) = reference.split_once("://")?;
    let is_scheme = scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    (is_scheme && !scheme.is_empty()).then_some((Some(scheme), rest))
}

fn is_same_origin(request: &request::Parts, scheme: Option<&str>, authority: &str) -> Option<()> {
    let own_scheme = request.uri.scheme_str();
    let host =
        || request.headers.get(HOST).and_then(|host| host.to_str().ok()).and_then(|host| host.parse().ok());
    let own: Authority = request.uri.authority().cloned().or_else(host)?;
    let other: Authority = authority.parse().ok()?;
    let scheme = scheme.or(own_scheme);
    let default = match scheme.map(str::to_ascii_lowercase).as_deref() {
        Some("http") => Some(80),
        Some("https") => Some(443),
        Some(_) => return None,
        None => None,
    };
    let has_same_scheme = match (scheme, own_scheme) {
        (Some(other), Some(own)) => other.eq_ignore_ascii_case(own),
        _ => true,
    };
    let port = |authority: &Authority| authority.port_u16().or(default);
    let is_same = has_same_scheme
        && !authority.contains('@')
        && own.host().eq_ignore_ascii_case(other.host())
        && port(&own) == port(&other);
    is_same.then_some(())
}

/// Takes `.` and `..` out of a path; the query stays as it is (RFC 3986, section 5.2.4).
fn without_dots(target: &str) -> String {
    let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            _ => {
                kept.push(segment);
                continue;
            }
        }
        if is_last {
            kept.push("");
        }
    }
    format!("/{}{query}", kept.join("/"))
}
