//! `Surrogate-Control` (the W3C's note "Edge Architecture Specification", section 2).

use http::{HeaderMap, HeaderName};

use super::{
    cache_control::{Argument, Directive, ResponseDirectives},
    delta, lines,
    list::members,
};

pub(crate) static SURROGATE_CONTROL: HeaderName = HeaderName::from_static("surrogate-control");

/// Reads the field. `None` if it is not there, or has nothing for this cache: `no-store`, `no-store-remote`
/// and `max-age` count, but not with a target (`max-age=60;name`), which some other surrogate bears.
pub(crate) fn read(headers: &HeaderMap) -> Option<ResponseDirectives> {
    let mut directives = ResponseDirectives::default();
    let mut is_empty = true;
    for member in lines(headers, &SURROGATE_CONTROL).flat_map(members) {
        if is_targeted(member) {
            continue;
        }
        // `max-age=3600+600` allows for 600 seconds more, stale.
        let plus = member.iter().position(|b| *b == b'+');
        let (member, extension) = plus.map_or((member, None), |at| (&member[..at], Some(&member[at + 1..])));
        let directive = Directive::of(member);
        if directive.name.eq_ignore_ascii_case(b"max-age") {
            is_empty = false;
            if let Some(extension) = extension {
                directives.stale_while_revalidate.add(delta::parse(extension));
            }
            directives.add(&directive);
        } else if directive.name.eq_ignore_ascii_case(b"no-store")
            || directive.name.eq_ignore_ascii_case(b"no-store-remote")
        {
            is_empty = false;
            directives.add(&Directive { name: b"no-store", argument: Argument::None, is_exact: true });
        }
    }
    (!is_empty).then_some(directives)
}

fn is_targeted(member: &[u8]) -> bool {
    let mut is_quoted = false;
    member.iter().any(|byte| {
        is_quoted ^= *byte == b'"';
        *byte == b';' && !is_quoted
    })
}

#[cfg(test)]
mod tests {
    use super::{super::cache_control::Delta, *};

    fn line(line: &str) -> Option<ResponseDirectives> {
        let mut headers = HeaderMap::new();
        headers.insert(&SURROGATE_CONTROL, line.parse().unwrap());
        read(&headers)
    }

    #[test]
    fn edge_architecture_section_2_2_directives() {
        assert_eq!(line("max-age=3600").unwrap().max_age, Delta::Seconds(3600));
        assert_eq!(line("content=\"ESI/1.0, x\", MaX-aGe=3600").unwrap().max_age, Delta::Seconds(3600));
        let extended = line("max-age=3600+600").unwrap();
        assert_eq!(
            (extended.max_age, extended.stale_while_revalidate),
            (Delta::Seconds(3600), Delta::Seconds(600))
        );
        assert!(line("no-store").unwrap().no_store && line("No-Store-Remote").unwrap().no_store);
        assert_eq!(line("max-age =1").unwrap().max_age, Delta::Invalid);
    }

    #[test]
    fn edge_architecture_section_2_2_what_is_for_another_surrogate_is_ignored() {
        assert_eq!(line("max-age=3600;not-for-you"), None);
        assert_eq!(line("max-age=60, max-age=3600;other").unwrap().max_age, Delta::Seconds(60));
        assert_eq!(line("content=\"ESI/1.0\""), None);
        assert_eq!(line(""), None);
    }
}
