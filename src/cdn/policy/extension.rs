//! Names that do not fit what they name: web cache deception.

use http::{header::CONTENT_TYPE, request, response};

/// What the names of static files end with, and how their media types begin.
const KINDS: [(&[&str], &[&str]); 7] = [
    (&["css"], &["text/css"]),
    (&["js", "mjs"], &["text/javascript", "application/javascript", "application/x-javascript"]),
    (&["png", "jpg", "jpeg", "gif", "webp", "avif", "bmp", "ico", "svg", "tif", "tiff"], &["image/"]),
    (
        &["woff", "woff2", "ttf", "otf", "eot"],
        &["font/", "application/font", "application/x-font", "application/vnd.ms-fontobject"],
    ),
    (&["mp4", "webm", "m4v", "mov", "ogv", "mpg"], &["video/"]),
    (&["mp3", "m4a", "ogg", "oga", "wav", "flac", "aac"], &["audio/", "video/", "application/ogg"]),
    (&["pdf"], &["application/pdf"]),
];

/// Whether the path ends like the name of a static file, and the response says that it is something else.
///
/// `/account/x.css` may be answered with the account of whoever was lured there, and a cache that went by names would show it to
/// everybody. This one goes by `Cache-Control`; the check is for origins that send it by name.
pub(super) fn contradicts(request: &request::Parts, response: &response::Parts) -> bool {
    let path = request.uri.path().as_bytes();
    let name = path.rsplit(|b| *b == b'/').next().unwrap_or_default();
    // What follows `;` or an encoded delimiter is not part of the name to every server.
    let name = name.split(|b| matches!(b, b';' | b'%')).next().unwrap_or_default();
    let endings = [name, path].map(|name| name.rsplit(|b| *b == b'.').next().unwrap_or_default());
    let Some(media_type) = response.headers.get(CONTENT_TYPE) else { return false };
    let starts_with = |start: &str| {
        let begins = media_type.as_bytes().trim_ascii_start().get(..start.len());
        begins.is_some_and(|begins| begins.eq_ignore_ascii_case(start.as_bytes()))
    };
    let kind = KINDS.iter().find(|(names, _)| {
        names.iter().any(|name| endings.iter().any(|ending| ending.eq_ignore_ascii_case(name.as_bytes())))
    });
    let octets = "application/octet-stream";
    kind.is_some_and(|(_, types)| !starts_with(octets) && !types.iter().any(|start| starts_with(start)))
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};

    use super::*;

    #[test]
    fn names_are_compared_with_what_comes() {
        for (path, media_type, wanted) in [
            ("/account/x.css", "text/html", true),
            ("/account/x.CSS", "text/html; charset=utf-8", true),
            ("/account;x.css", "text/html", true),
            ("/account/x.css%3fa", "text/html", true),
            ("/x.css", "Text/CSS", false),
            ("/x.png", "image/png", false),
            ("/x.png", "application/octet-stream", false),
            ("/x.json", "text/html", false),
            ("/account", "text/html", false),
            ("/x.y/account", "text/html", false),
        ] {
            let (request, ()) = Request::get(path).body(()).unwrap().into_parts();
            let (response, ()) =
                Response::builder().header("content-type", media_type).body(()).unwrap().into_parts();
            assert_eq!(contradicts(&request, &response), wanted, "{path} {media_type}");
        }
        let (request, ()) = Request::get("/x.css").body(()).unwrap().into_parts();
        assert!(!contradicts(&request, &Response::new(()).into_parts().0));
    }
}
