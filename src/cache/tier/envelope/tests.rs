use proptest::prelude::*;

use super::*;

const NOW: u64 = 1_700_000_000_000;
const MINUTE: Duration = Duration::from_secs(60);

fn envelope() -> Envelope {
    Envelope::new("test/1", 10_000)
}

fn sealed() -> (Vec<u8>, Vec<u8>) {
    let key = Envelope::key(&"key").unwrap();
    let bytes = envelope().seal(&key, &("value".to_owned(), 7_u32), NOW, Some(MINUTE)).unwrap();
    (key, bytes)
}

type Value = (String, u32);

#[test]
fn what_goes_in_comes_out_with_what_is_left_of_its_time() {
    let (key, bytes) = sealed();
    let opened = envelope().open::<Value>(&key, &bytes, NOW + 20_000);
    assert_eq!(opened, Ok((("value".to_owned(), 7), Some(Duration::from_secs(40)))));
    let for_ever = envelope().seal(&key, &1_u8, NOW, None).unwrap();
    assert_eq!(envelope().open::<u8>(&key, &for_ever, u64::MAX), Ok((1, None)));
}

#[test]
fn a_bit_flipped_anywhere_is_never_a_value() {
    let (key, bytes) = sealed();
    for bit in 0..bytes.len() * 8 {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(envelope().open::<Value>(&key, &bytes, NOW).is_err(), "bit {bit}");
    }
}

#[test]
fn a_torn_or_lengthened_envelope_is_never_a_value() {
    let (key, bytes) = sealed();
    for len in 0..bytes.len() {
        assert!(envelope().open::<Value>(&key, &bytes[..len], NOW).is_err(), "{len} bytes");
    }
    let mut longer = bytes;
    longer.push(0);
    assert_eq!(envelope().open::<Value>(&key, &longer, NOW), Err(Rejection::Damaged));
}

#[test]
fn another_key_schema_or_version_is_a_miss() {
    let (key, mut bytes) = sealed();
    let other = Envelope::key(&"kez").unwrap();
    assert_eq!(envelope().open::<Value>(&other, &bytes, NOW), Err(Rejection::OtherKey));
    let next = Envelope::new("test/2", 10_000);
    assert_eq!(next.open::<Value>(&key, &bytes, NOW), Err(Rejection::Foreign));
    bytes[2] = VERSION + 1;
    assert_eq!(envelope().open::<Value>(&key, &bytes, NOW), Err(Rejection::Foreign));
}

#[test]
fn a_type_that_changed_under_the_same_schema_is_a_miss() {
    let (key, bytes) = sealed();
    assert_eq!(envelope().open::<u8>(&key, &bytes, NOW), Err(Rejection::Foreign), "bytes are left over");
    assert_eq!(envelope().open::<(String, u32, u64)>(&key, &bytes, NOW), Err(Rejection::Foreign));
}

#[test]
fn more_than_the_limit_is_neither_written_nor_read() {
    let small = Envelope::new("test/1", 100);
    let key = Envelope::key(&"key").unwrap();
    let long = "x".repeat(100);
    assert!(matches!(small.seal(&key, &long, NOW, None), Err(TierError::TooLarge { limit: 100, .. })));
    let bytes = envelope().seal(&key, &long, NOW, None).unwrap();
    assert_eq!(small.open::<String>(&key, &bytes, NOW), Err(Rejection::TooLarge));
}

#[test]
fn a_clock_that_jumps_never_lengthens_a_life() {
    let (key, bytes) = sealed();
    let left = |now| envelope().open::<Value>(&key, &bytes, now).map(|(_, ttl)| ttl.unwrap());
    assert_eq!(left(NOW + 60_000), Err(Rejection::Expired));
    assert_eq!(left(u64::MAX), Err(Rejection::Expired));
    assert_eq!(left(NOW - 30_000), Ok(MINUTE), "a little skew between machines");
    assert_eq!(left(NOW - SKEW - 1), Err(Rejection::Expired), "set back: its age is unknown");
    assert_eq!(left(0), Err(Rejection::Expired));
}

#[test]
fn the_longest_and_the_shortest_times_do_not_overflow() {
    let key = Envelope::key(&1_u8).unwrap();
    let long = envelope().seal(&key, &1_u8, NOW, Some(Duration::MAX)).unwrap();
    assert!(envelope().open::<u8>(&key, &long, NOW).unwrap().1.unwrap() > Duration::from_secs(1 << 40));
    let none = envelope().seal(&key, &1_u8, NOW, Some(Duration::ZERO)).unwrap();
    assert_eq!(envelope().open::<u8>(&key, &none, NOW), Err(Rejection::Expired));
    let moment = envelope().seal(&key, &1_u8, NOW, Some(Duration::from_nanos(1))).unwrap();
    assert_eq!(envelope().open::<u8>(&key, &moment, NOW), Ok((1, Some(Duration::from_millis(1)))));
}

proptest! {
    #[test]
    fn any_value_returns_as_it_was(key: String, value: Vec<(u8, String)>, ttl in 1_u64..1 << 50, at in 0_u64..1 << 50) {
        let key = Envelope::key(&key).unwrap();
        let envelope = Envelope::new("any", usize::MAX);
        let ttl = Duration::from_millis(ttl);
        let bytes = envelope.seal(&key, &value, at, Some(ttl)).unwrap();
        prop_assert_eq!(envelope.open::<Vec<(u8, String)>>(&key, &bytes, at), Ok((value, Some(ttl))));
    }

    #[test]
    fn garbage_is_never_a_value(garbage: Vec<u8>, prefix in 0_usize..80) {
        let (key, sealed) = sealed();
        prop_assert!(envelope().open::<Value>(&key, &garbage, NOW).is_err());
        let mut bytes = sealed[..prefix.min(sealed.len() - 1)].to_vec();
        bytes.extend(garbage);
        prop_assume!(bytes != sealed);
        prop_assert!(envelope().open::<Value>(&key, &bytes, NOW).is_err());
    }

    /// Whoever can compute the checksum still gets no panic out of it.
    #[test]
    fn garbage_with_a_right_checksum_never_panics(garbage in prop::collection::vec(any::<u8>(), 0..200)) {
        let (key, sealed) = sealed();
        let mut bytes = sealed[..SUMMED].to_vec();
        bytes.extend(garbage);
        let sum = xxh3_64(&bytes[SUMMED..]);
        bytes[SUMMED - 8..SUMMED].copy_from_slice(&sum.to_le_bytes());
        let _ = envelope().open::<Value>(&key, &bytes, NOW);
        if bytes.len() >= SUMMED + 8 {
            bytes[SUMMED..SUMMED + 8].copy_from_slice(&sealed[SUMMED..SUMMED + 8]);
            let sum = xxh3_64(&bytes[SUMMED..]);
            bytes[SUMMED - 8..SUMMED].copy_from_slice(&sum.to_le_bytes());
            let _ = envelope().open::<Value>(&key, &bytes, NOW);
        }
    }
}
