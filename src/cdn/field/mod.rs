//! What header fields say: parsers over the bytes of all lines of a field, for input that is hostile.
