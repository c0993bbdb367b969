//! The rules, section by section. Each test names the section that it is about.

mod conditions;
mod freshness;
mod hostile;
mod invalidation;
mod oracle;
mod ranges;
mod reuse;
mod storing;
mod validation;

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, request, response};

use super::*;
use crate::{cdn::field::date, time::ManualClock};

/// Fields, by name and value.
type Fields<'f> = &'f [(&'f str, &'f str)];

fn fields(pairs: Fields) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        // As it comes over the wire: any byte.
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
    }
    headers
}

fn request(method: &str, uri: &str, pairs: Fields) -> request::Parts {
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = Method::from_bytes(method.as_bytes()).unwrap();
    parts.uri = uri.parse().unwrap();
    parts.headers = fields(pairs);
    parts
}

fn get(pairs: Fields) -> request::Parts {
    request("GET", "http://a.example/path?query", pairs)
}

fn response(status: u16, pairs: Fields) -> response::Parts {
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status = StatusCode::from_u16(status).unwrap();
    parts.headers = fields(pairs);
    parts
}

fn ok(pairs: Fields) -> response::Parts {
    response(200, pairs)
}

/// A cache's rules and its clock, which begins at 2020-01-01.
struct Scene {
    policy: Policy,
    clock: ManualClock,
}

impl Scene {
    fn new() -> Self {
        Self::with(Policy::new())
    }

    fn with(policy: Policy) -> Self {
        Self { policy, clock: ManualClock::new() }
    }

    fn now(&self) -> Moment {
        Moment::now(&self.clock)
    }

    fn wait(&self, seconds: u64) -> &Self {
        self.clock.advance(Duration::from_secs(seconds));
        self
    }

    /// A date so many seconds from now.
    fn date(&self, seconds: i64) -> String {
        let wall = self.now().wall;
        let by = Duration::from_secs(seconds.unsigned_abs());
        let time = if seconds < 0 { wall - by } else { wall + by };
        date::to_value(time).to_str().unwrap().to_owned()
    }

    fn store(&self, request: &request::Parts, response: &response::Parts) -> Result<Stored, Unstorable> {
        self.policy.store(request, response, self.now(), self.now())
    }

    /// What a plain GET was answered with.
    fn stored(&self, pairs: Fields) -> Stored {
        self.store(&get(&[]), &ok(pairs)).unwrap()
    }

    fn refused(&self, pairs: Fields) -> Unstorable {
        self.store(&get(&[]), &ok(pairs)).unwrap_err()
    }

    fn reuse(&self, stored: &Stored, pairs: Fields) -> Reuse {
        self.policy.reuse(stored, &get(pairs), self.now())
    }

    fn refresh(&self, stored: &Stored, request: Fields, pairs: Fields) -> Refreshed {
        self.policy.refresh(stored, &get(request), &response(304, pairs), self.now(), self.now())
    }

    /// Whether a GET is answered without asking the origin, at once after it was answered so.
    fn is_hit(&self, response: &response::Parts) -> bool {
        self.store(&get(&[]), response)
            .is_ok_and(|stored| matches!(self.reuse(&stored, &[]), Reuse::Fresh { .. }))
    }
}

fn text<'s>(headers: &'s HeaderMap, name: &str) -> Option<&'s str> {
    let mut all = headers.get_all(name).iter();
    let value = all.next().map(|value| value.to_str().unwrap());
    assert_eq!(all.next(), None, "{name} is there once");
    value
}
