//! Clients that stay with the node that knows them.
mod base64;
mod build;
mod cookie;
mod keys;
pub use self::{
    build::{CookieBuilder, CookieError},
    cookie::{NodeTag, Pin, Rejected, SameSite, StickyCookie},
    keys::{CookieKeys, KeyError},
};
