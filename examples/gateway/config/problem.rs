//! What is wrong with a configuration file, and where.

use std::{fmt, io, ops::Range, path::Path};

use toml::Spanned;

/// A mistake in a configuration file, shown with the line that it is in.
#[derive(Debug)]
pub(crate) struct Problem {
    file: String,
    message: String,
    place: Option<Place>,
}

#[derive(Debug)]
struct Place {
    line: usize,
    column: usize,
    width: usize,
    text: String,
}

/// A mistake, and where it is if it is in one place.
pub(super) type Mistake = (Option<Range<usize>>, String);

/// A mistake in a value that says where it is.
pub(super) fn mistake<T>(place: &Spanned<T>, message: impl Into<String>) -> Mistake {
    (Some(place.span()), message.into())
}

impl Problem {
    pub(super) fn unreadable(file: &Path, error: &io::Error) -> Self {
        Self { file: file.display().to_string(), message: format!("cannot read it: {error}"), place: None }
    }

    /// A mistake at this part of the file's text.
    pub(super) fn at(file: &str, text: &str, span: Option<Range<usize>>, message: String) -> Self {
        Self { file: file.to_owned(), message, place: span.map(|span| Place::new(text, &span)) }
    }
}

impl Place {
    fn new(text: &str, span: &Range<usize>) -> Self {
        let begin = text[..span.start].rfind('\n').map_or(0, |at| at + 1);
        let line = text[begin..].lines().next().unwrap_or_default();
        let column = text[begin..span.start].chars().count();
        let width = text[span.clone()].lines().next().unwrap_or_default().chars().count().max(1);
        Self { line: line_of(text, span.start), column, width, text: line.to_owned() }
    }
}

/// The number of the line that this byte is in.
pub(super) fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, message, place } = self;
        let Some(Place { line, column, width, text }) = place else { return write!(f, "{file}: {message}") };
        writeln!(f, "{file}:{line}:{}: {message}", column + 1)?;
        // Tabs are kept, so that the mark stands where it should.
        let indent: String = text.chars().take(*column).map(|c| if c == '\t' { c } else { ' ' }).collect();
        write!(
            f,
            "  {line} | {text}\n  {:digits$} | {indent}{}",
            "",
            "^".repeat(*width),
            digits = line.to_string().len()
        )
    }
}

impl std::error::Error for Problem {}
