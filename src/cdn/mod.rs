//! A shared HTTP cache (RFC 9111).

mod field;
pub mod policy;
