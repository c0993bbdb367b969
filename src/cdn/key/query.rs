//! The parameters of a query, as far as they belong to the key.
//!
//! Origins differ in how they read a query: some take `;` for `&`, names without case, `id[]` and `%69d` for `id`. Whatever is left
//! out or moved here must make no difference to any of them.

/// What becomes of a query.
#[derive(Clone, Debug)]
pub(super) struct Query {
    choice: Choice,
    is_sorted: bool,
}

#[derive(Clone, Debug)]
enum Choice {
    All,
    Only(Vec<Name>),
    Ignore(Vec<Name>),
}

/// The name of parameters, or what it begins with.
#[derive(Clone, Debug)]
struct Name {
    bytes: Box<[u8]>,
    is_prefix: bool,
}

impl Query {
    pub(super) const fn new() -> Self {
        Self { choice: Choice::All, is_sorted: false }
    }

    pub(super) fn sort(&mut self) {
        self.is_sorted = true;
    }

    pub(super) fn only(&mut self, names: impl Iterator<Item = String>) {
        self.choice = Choice::Only(names.map(|name| Name::new(&name)).collect());
    }

    pub(super) fn ignore(&mut self, names: impl Iterator<Item = String>) {
        self.choice = Choice::Ignore(names.map(|name| Name::new(&name)).collect());
    }

    /// Writes what belongs to the key, with a question mark in front if there is something.
    pub(super) fn write(&self, query: &[u8], key: &mut Vec<u8>) {
        if matches!(self.choice, Choice::All) && !self.is_sorted {
            key.push(b'?');
            key.extend_from_slice(query);
            return;
        }
        let parameters = query.split(|byte| *byte == b'&').filter(|parameter| self.keeps(parameter));
        // What is split at `;` by some may have several names, so it has no place of its own in the order.
        if self.is_sorted && !query.contains(&b';') {
            let mut parameters: Vec<_> = parameters.collect();
            parameters.sort_by(|a, b| loose(name(a)).cmp(loose(name(b))));
            join(parameters.into_iter(), key);
        } else {
            join(parameters, key);
        }
    }

    fn keeps(&self, parameter: &[u8]) -> bool {
        let mut pieces = parameter.split(|byte| *byte == b';').map(name);
        match &self.choice {
            Choice::All => true,
            Choice::Only(names) => pieces.any(|piece| names.iter().any(|name| name.may_be(piece))),
            Choice::Ignore(names) => !pieces.all(|piece| names.iter().any(|name| name.is(piece))),
        }
    }
}

fn join<'a>(parameters: impl Iterator<Item = &'a [u8]>, key: &mut Vec<u8>) {
    let mut separator = b'?';
    for parameter in parameters {
        key.push(separator);
        key.extend_from_slice(parameter);
        separator = b'&';
    }
}

impl Name {
    fn new(name: &str) -> Self {
        let (name, is_prefix) = name.strip_suffix('*').map_or((name, false), |begin| (begin, true));
        Self { bytes: name.as_bytes().into(), is_prefix }
    }

    /// Whether this is the name, for every origin.
    fn is(&self, name: &[u8]) -> bool {
        let rest = decoded(name);
        if self.is_prefix {
            begins(rest, self.bytes.iter().copied())
        } else {
            rest.eq(self.bytes.iter().copied())
        }
    }

    /// Whether some origin may take this for the name.
    fn may_be(&self, name: &[u8]) -> bool {
        let ours = self.bytes.iter().map(|byte| fold(*byte));
        if self.is_prefix { begins(loose(name), ours) } else { loose(name).eq(ours) }
    }
}

fn begins(mut name: impl Iterator<Item = u8>, beginning: impl Iterator<Item = u8>) -> bool {
    beginning.into_iter().all(|byte| name.next() == Some(byte))
}

fn name(parameter: &[u8]) -> &[u8] {
    parameter.split(|byte| *byte == b'=').next().unwrap_or_default()
}

/// A name without `%` and `+`.
fn decoded(mut name: &[u8]) -> impl Iterator<Item = u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    std::iter::from_fn(move || {
        let (byte, rest) = name.split_first()?;
        name = rest;
        if let (b'%', [high, low, rest @ ..]) = (byte, rest)
            && let (Some(high), Some(low)) = (digit(*high), digit(*low))
        {
            name = rest;
            return Some(high << 4 | low);
        }
        Some(if *byte == b'+' { b' ' } else { *byte })
    })
}

/// A name as the least careful origin reads it: without case, spaces in front, and what is in brackets; a dot is an underscore.
fn loose(name: &[u8]) -> impl Iterator<Item = u8> {
    let name = decoded(name).skip_while(|byte| *byte == b' ');
    name.take_while(|byte| !matches!(byte, b'[' | 0)).map(fold)
}

fn fold(byte: u8) -> u8 {
    match byte {
        b'.' | b' ' => b'_',
        byte => byte.to_ascii_lowercase(),
    }
}
