//! What status codes mean to a cache (RFC 9110, section 15).

use http::StatusCode;

/// Whether a response with this status may be stored by heuristics (RFC 9110, section 15.1; RFC 7725).
pub(super) fn is_heuristically_cacheable(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 206 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 451 | 501)
}

/// Whether what the status asks of caches is known and done here (RFC 9111, section 3).
pub(super) fn is_understood(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200..=206 | 300..=303 | 307 | 308 | 400 | 401 | 403..=411 | 413..=415 | 417 | 422 | 424 | 426 | 451 | 500..=508
    )
}

/// Whether a status is final, and about what the cache key tells: not about a condition, a range, a
/// connection or the rate of one client. RFC 6585 has four that must not be stored.
pub(super) fn is_storable(status: StatusCode) -> bool {
    let status = status.as_u16();
    status >= 200 && !matches!(status, 304 | 407 | 408 | 412 | 416 | 417 | 421 | 425 | 428 | 429 | 431 | 511)
}

/// Whether it is a failure that is worth remembering for a while.
pub(super) fn is_negative(status: StatusCode) -> bool {
    matches!(status.as_u16(), 404 | 405 | 410 | 414 | 451 | 500..=504)
}
