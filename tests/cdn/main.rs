//! The cache as the RFCs want it, over real sockets, in front of an origin that does as it is told.
//!
//! Most of it is in `scripts/`, one file for each part of an RFC, with the sections as headings; [`script`] says how they
//! are read.

#![cfg(all(feature = "cdn", feature = "proxy"))]

mod clock;
mod gateway;
mod histories;
mod message;
mod play;
mod script;
mod stage;
mod together;

use play::play_all;

macro_rules! scripts {
    ($($name:ident $file:literal)*) => {$(
        #[tokio::test]
        async fn $name() {
            play_all($file, include_str!(concat!("scripts/", $file))).await;
        }
    )*};
}

scripts! {
    rfc9111_storing "rfc9111-3-storing.txt"
    rfc9111_reusing "rfc9111-4-reusing.txt"
    rfc9111_freshness "rfc9111-4.2-freshness.txt"
    rfc9111_validation "rfc9111-4.3-validation.txt"
    rfc9111_invalidation "rfc9111-4.4-invalidation.txt"
    rfc9111_fields "rfc9111-5-fields.txt"
    rfc9110_conditions "rfc9110-13-conditions.txt"
    rfc9110_ranges "rfc9110-14-ranges.txt"
    rfc9110_methods "rfc9110-9-methods.txt"
    extensions "extensions.txt"
    settings "settings.txt"
    hostile "hostile.txt"
}
