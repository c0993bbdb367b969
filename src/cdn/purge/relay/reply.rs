//! What `XREAD` answers: pure.

use ::redis::Value;

use super::chain::Id;

/// An entry of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) id: Id,
    pub(super) before: Option<Id>,
    pub(super) message: Vec<u8>,
}

/// The entries of one stream; `None` if this is no such answer.
pub(super) fn entries(reply: Value) -> Option<Vec<Entry>> {
    let stream = match reply {
        Value::Nil => return Some(Vec::new()),
        Value::Array(streams) => {
            streams.into_iter().next().and_then(|stream| list(stream)?.into_iter().nth(1))
        }
        Value::Map(streams) => streams.into_iter().next().map(|(_, entries)| entries),
        _ => None,
    };
    list(stream?)?.into_iter().map(entry).collect()
}

fn entry(value: Value) -> Option<Entry> {
    let mut parts = list(value)?.into_iter();
    let id = Id::parse(&text(parts.next()?)?)?;
    let mut entry = Entry { id, before: None, message: Vec::new() };
    let mut fields = list(parts.next()?)?.into_iter();
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        match &*text(name)? {
            b"m" => entry.message = text(value)?,
            b"b" => entry.before = Some(Id::parse(&text(value)?)?),
            _ => {}
        }
    }
    Some(entry)
}

fn list(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(values) => Some(values),
        _ => None,
    }
}

fn text(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.into_bytes()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    #[test]
    fn entries_are_read() {
        let fields = Value::Array(["m", "x", "b", "1-0"].map(bulk).into());
        let first = Value::Array(vec![bulk("1-0"), Value::Array(["m", ""].map(bulk).into())]);
        let second = Value::Array(vec![bulk("2-0"), fields]);
        let list = Value::Array(vec![first, second]);
        let expected = [("1-0", None, ""), ("2-0", Some("1-0"), "x")].map(|(id, before, message)| Entry {
            id: Id::parse(id.as_bytes()).unwrap(),
            before: before.and_then(|id: &str| Id::parse(id.as_bytes())),
            message: message.into(),
        });
        let two = Value::Array(vec![Value::Array(vec![bulk("stream"), list.clone()])]);
        assert_eq!(entries(two), Some(expected.to_vec()));
        assert_eq!(entries(Value::Map(vec![(bulk("stream"), list)])), Some(expected.to_vec()));
        assert_eq!(entries(Value::Nil), Some(Vec::new()), "nothing for a while");
        for garbage in
            [Value::Okay, Value::Array(vec![]), Value::Array(vec![Value::Array(vec![Value::Int(1)])])]
        {
            assert_eq!(entries(garbage), None);
        }
    }
}
