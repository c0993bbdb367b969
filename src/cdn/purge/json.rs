//! As much JSON as purges need: an object of texts, lists of texts, and booleans. Pure.

use std::{fmt::Write, str};

/// A value in an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
}

/// Where it is no JSON, or none that we understand, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) usize);

/// The fields of an object, in order.
pub(super) fn parse(text: &str) -> Result<Vec<(String, Value)>, Malformed> {
    let mut parser = Parser { text, at: 0 };
    let fields = parser.object();
    let fields = fields.filter(|_| {
        parser.skip_space();
        parser.at == text.len()
    });
    fields.ok_or(Malformed(parser.at))
}

/// A text as JSON has it, with its quotes.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            letter if letter.is_control() => _ = write!(out, "\\u{:04x}", u32::from(letter)),
            letter => out.push(letter),
        }
    }
    out.push('"');
    out
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn object(&mut self) -> Option<Vec<(String, Value)>> {
        let mut fields = Vec::new();
        self.take("{")?;
        if self.take("}").is_some() {
            return Some(fields);
        }
        loop {
            let name = self.text()?;
            self.take(":")?;
            fields.push((name, self.value()?));
            if self.take(",").is_none() {
                self.take("}")?;
                return Some(fields);
            }
        }
    }

    fn value(&mut self) -> Option<Value> {
        if self.take("true").is_some() {
            return Some(Value::Bool(true));
        }
        if self.take("false").is_some() {
            return Some(Value::Bool(false));
        }
        if self.take("[").is_none() {
            return self.text().map(Value::Text);
        }
        let mut texts = Vec::new();
        if self.take("]").is_some() {
            return Some(Value::Texts(texts));
        }
        loop {
            texts.push(self.text()?);
            if self.take(",").is_none() {
                self.take("]")?;
                return Some(Value::Texts(texts));
            }
        }
    }

    fn text(&mut self) -> Option<String> {
        self.take("\"")?;
        let mut out = String::new();
        loop {
            let letter = self.letter()?;
            match letter {
                '"' => return Some(out),
                '\\' => out.push(self.escaped()?),
                '\0'..' ' => return None,
                letter => out.push(letter),
            }
        }
    }

    fn escaped(&mut self) -> Option<char> {
        Some(match self.letter()? {
            letter @ ('"' | '\\' | '/') => letter,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let unit = self.unit()?;
                if !(0xd800..0xdc00).contains(&unit) {
                    return char::from_u32(unit);
                }
                (self.letter()? == '\\' && self.letter()? == 'u').then_some(())?;
                let low = self.unit()?.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
                return char::from_u32(0x10000 + ((unit - 0xd800) << 10) + low);
            }
            _ => return None,
        })
    }

    fn unit(&mut self) -> Option<u32> {
        (0..4).try_fold(0, |unit, _| Some(unit << 4 | self.letter()?.to_digit(16)?))
    }

    fn letter(&mut self) -> Option<char> {
        let letter = self.text[self.at..].chars().next()?;
        self.at += letter.len_utf8();
        Some(letter)
    }

    fn take(&mut self, token: &str) -> Option<()> {
        self.skip_space();
        self.text[self.at..].starts_with(token).then(|| self.at += token.len())
    }

    fn skip_space(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn orders_are_read() {
        let text = r#" { "tag" : [ "a" , "\u00e4\ud83d\ude00\n\/" ] , "soft":true,"url":"x" } "#;
        let texts = Value::Texts(vec!["a".into(), "ä😀\n/".into()]);
        let expected = [("tag", texts), ("soft", Value::Bool(true)), ("url", Value::Text("x".into()))];
        assert_eq!(parse(text), Ok(expected.map(|(name, value)| (name.to_owned(), value)).into()));
        assert_eq!(parse("{}"), Ok(Vec::new()));
    }

    #[test]
    fn what_is_malformed_says_where() {
        for (text, at) in [
            ("", 0),
            ("[]", 0),
            ("{\"a\":1}", 5),
            ("{\"a\":{}}", 5),
            ("{\"a\":[[\"x\"]]}", 6),
            ("{\"a\":\"x\"} x", 10),
            ("{\"a\":\"x\",}", 9),
            ("{\"a", 3),
            ("{\"\\ud800\":true}", 9),
            ("{\"a\":\"\u{1}\"}", 7),
        ] {
            assert_eq!(parse(text), Err(Malformed(at)), "{text}");
        }
    }

    proptest! {
        #[test]
        fn texts_come_back_as_they_went(text: String) {
            let object = format!("{{{}:[{}]}}", quoted(&text), quoted(&text));
            prop_assert_eq!(parse(&object), Ok(vec![(text.clone(), Value::Texts(vec![text.clone()]))]));
            let ours: serde_json::Value = serde_json::from_str(&quoted(&text)).unwrap();
            prop_assert_eq!(ours.as_str(), Some(&*text));
        }

        #[test]
        fn garbage_never_panics(text in "[{}\\[\\]\":,a-f\\\\u0-9 ü]{0,40}") {
            if parse(&text).is_ok() {
                prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
            }
        }
    }
}
