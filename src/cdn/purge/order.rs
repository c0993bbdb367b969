//! What a request asks to purge: pure.

use http::{HeaderMap, Uri};

use super::{
    InvalidPurge, Purge,
    json::{self, Malformed, Value},
};
use crate::cdn::key::{CacheKey, Unkeyed};

/// Why nothing was purged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadOrder {
    #[error("no JSON object of texts, lists of texts and booleans: see byte {0}")]
    Json(usize),
    #[error("{0:?} is nothing to say about a purge: say \"url\", \"prefix\", \"tag\", \"all\" or \"soft\"")]
    Field(String),
    #[error("{0:?} must be {1}")]
    Type(String, &'static str),
    #[error("nothing to purge: say \"url\", \"prefix\", \"tag\" or \"all\"")]
    Nothing,
    #[error(transparent)]
    Purge(#[from] InvalidPurge),
    #[error("no response is stored for this URL: {0}")]
    Unkeyed(#[from] Unkeyed),
}

/// The purges in a JSON object. All of them make sense, or there is none.
pub(super) fn from_json(text: &str) -> Result<Vec<Purge>, BadOrder> {
    let fields = json::parse(text).map_err(|Malformed(at)| BadOrder::Json(at))?;
    let mut purges = Vec::new();
    let mut soft = false;
    for (name, value) in fields {
        let make = match &*name {
            "url" => Purge::url,
            "prefix" => Purge::prefix,
            "tag" => Purge::tag,
            "all" | "soft" => {
                let Value::Bool(is_so) = value else { return Err(BadOrder::Type(name, "true or false")) };
                if name == "soft" {
                    soft = is_so;
                } else if is_so {
                    purges.push(Purge::all());
                }
                continue;
            }
            _ => return Err(BadOrder::Field(name)),
        };
        match value {
            Value::Text(text) => purges.push(make(text)?),
            Value::Texts(texts) => {
                for text in texts {
                    purges.push(make(text)?);
                }
            }
            Value::Bool(_) => return Err(BadOrder::Type(name, "a text or a list of texts")),
        }
    }
    if purges.is_empty() {
        return Err(BadOrder::Nothing);
    }
    Ok(purges.into_iter().map(|purge| purge.with_soft(soft)).collect())
}

/// The purge of the URL that a `PURGE` request names.
pub(super) fn from_request(keys: &CacheKey, uri: &Uri, headers: &HeaderMap) -> Result<Purge, BadOrder> {
    let key = keys.of_uri(uri, headers)?;
    let url = String::from_utf8_lossy(key.url());
    let has_host = key.url().len() > key.path().len() + url.find("://").map_or(0, |at| at + 3);
    let purge = if has_host { Purge::url(url) } else { Purge::url(String::from_utf8_lossy(key.path())) };
    Ok(purge?.with_soft(headers.get("soft-purge").is_some_and(|value| value == "1" || value == "true")))
}
