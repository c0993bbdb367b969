//! What version 2 can say beside addresses: a type, a length and a value, one after the other.

use super::{Header, HeaderError, checksum::crc32c, v2};

/// "an opaque byte sequence of up to 128 bytes" (section 2.2.5).
const MAX_UNIQUE_ID: usize = 128;

/// Type and length.
const HEAD: usize = 3;

/// What is left beside the largest addresses that we write.
const ROOM: usize = v2::MAX - v2::FIXED - 36;

/// The TLVs of a whole header, which begin at `start`: checked, without checksum and padding.
pub(super) fn read(header: &[u8], start: usize) -> Result<Vec<u8>, HeaderError> {
    let mut kept = Vec::new();
    let mut checksum = None;
    let mut rest = &header[start..];
    while !rest.is_empty() {
        let (kind, value, after) = split(rest).ok_or(HeaderError::Tlv)?;
        match kind {
            Header::NOOP => {}
            Header::CRC32C => {
                let sum = u32::from_be_bytes(value.try_into().map_err(|_| HeaderError::Tlv)?);
                let at = header.len() - after.len() - value.len();
                if checksum.replace((at, sum)).is_some() {
                    return Err(HeaderError::Tlv);
                }
            }
            Header::UNIQUE_ID if value.len() > MAX_UNIQUE_ID => return Err(HeaderError::Tlv),
            _ => kept.extend(&rest[..rest.len() - after.len()]),
        }
        rest = after;
    }
    match checksum {
        // Computed with zeros in its own place (section 2.2.3).
        Some((at, sum)) if crc32c(&[&header[..at], &[0; 4], &header[at + 4..]]) != sum => {
            Err(HeaderError::Checksum)
        }
        _ => Ok(kept),
    }
}

pub(super) fn push(tlvs: &mut Vec<u8>, kind: u8, value: &[u8]) -> Result<(), HeaderError> {
    let is_ours = kind == Header::CRC32C || kind == Header::NOOP;
    if is_ours || (kind == Header::UNIQUE_ID && value.len() > MAX_UNIQUE_ID) {
        return Err(HeaderError::Tlv);
    }
    let length = u16::try_from(value.len()).map_err(|_| HeaderError::TooLong)?;
    if tlvs.len() + HEAD + value.len() > ROOM {
        return Err(HeaderError::TooLong);
    }
    tlvs.push(kind);
    tlvs.extend(length.to_be_bytes());
    tlvs.extend(value);
    Ok(())
}

/// The TLVs of bytes that were found well formed.
pub(super) fn iter(mut rest: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (kind, value, after) = split(rest)?;
        rest = after;
        Some((kind, value))
    })
}

/// The first TLV, and what comes after it.
fn split(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[kind, high, low], rest) = bytes.split_first_chunk::<HEAD>()?;
    let (value, after) = rest.split_at_checked(usize::from(u16::from_be_bytes([high, low])))?;
    Some((kind, value, after))
}
