use serde_json::{Value, json};

use super::*;

const TOKEN: &str = "a token that nobody guesses";

fn admin() -> PurgeService {
    PurgeService::new(&Cdn::new(1 << 20), TOKEN).unwrap()
}

fn order(method: &str, uri: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::builder()
        .method(method)
        .uri(uri)
        .header("authorization", format!("Bearer {TOKEN}"))
        .header("content-type", "application/json; charset=utf-8")
        .header("host", "example.com")
        .body(Full::new(body.into()))
        .unwrap()
}

async fn send(admin: &mut PurgeService, order: Request<Full<Bytes>>) -> (u16, Value, HeaderMap) {
    let (head, body) = admin.call(order).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head.status.as_u16(), serde_json::from_slice(&body).unwrap(), head.headers)
}

#[tokio::test]
async fn orders_are_counted_and_carried_out() {
    let mut admin = admin();
    let purges = |admin: &PurgeService| admin.store.stats().purges;
    let (status, body, head) = send(&mut admin, order("PURGE", "/x", "")).await;
    assert_eq!((status, body), (200, json!({"purged": 1})));
    assert_eq!(head["cache-control"], "no-store");
    assert_eq!(purges(&admin), 1);
    let orders =
        json!({"tag": ["a", "b"], "url": "https://example.com/", "prefix": "/x", "all": true, "soft": true});
    assert_eq!(send(&mut admin, order("POST", "/", orders.to_string())).await.1, json!({"purged": 5}));
    assert_eq!(purges(&admin), 6);
}

#[tokio::test]
async fn who_does_not_know_the_token_is_told_nothing_else() {
    let mut admin = admin();
    let with = |tokens: &[&str]| {
        let mut order = order("DELETE", "/x", "no json");
        order.headers_mut().remove(AUTHORIZATION);
        for token in tokens {
            order.headers_mut().append(AUTHORIZATION, token.parse().unwrap());
        }
        order
    };
    let right = format!("Bearer {TOKEN}");
    let cases: [&[&str]; 8] = [
        &[],
        &[""],
        &["Bearer"],
        &["Bearer "],
        &[TOKEN],
        &["Bearer a token that nobody guesse"],
        &["Bearer a token that nobody guessesX"],
        &[&right, &right],
    ];
    for tokens in cases {
        let (status, body, head) = send(&mut admin, with(tokens)).await;
        assert_eq!((status, &body["error"]), (401, &json!("unauthorized")), "{tokens:?}");
        assert_eq!(head["www-authenticate"], "Bearer");
    }
    let (status, _, head) = send(&mut admin, with(&[&format!("bearer {TOKEN}")])).await;
    assert_eq!((status, &head["allow"]), (405, &HeaderValue::from_static("POST, PURGE")));
    assert_eq!(admin.store.stats().purges, 0);
}

#[tokio::test]
async fn orders_that_make_no_sense_purge_nothing_and_are_told_why() {
    let mut admin = admin();
    for (body, part) in [
        ("", "byte 0"),
        ("{}", "nothing to purge"),
        (r#"{"soft":true}"#, "nothing to purge"),
        (r#"{"tags":["a"]}"#, "\"tags\""),
        (r#"{"tag":true}"#, "a list of texts"),
        (r#"{"all":"yes"}"#, "true or false"),
        (r#"{"tag":["good","a,b"]}"#, "\"a,b\" is no tag"),
        (r#"{"url":"example.com"}"#, "no URL"),
        (r#"{"prefix":"ftp://x"}"#, "no URL begins"),
        (r#"{"tag":"a"} "#, ""),
    ] {
        let (status, answer, _) = send(&mut admin, order("POST", "/", body)).await;
        let message = answer["message"].as_str().unwrap_or_default();
        assert!(message.contains(part), "{body}: {answer}");
        assert_eq!(status, if part.is_empty() { 200 } else { 400 }, "{body}");
    }
    let (status, _, _) = send(&mut admin, order("POST", "/", vec![b' '; LONGEST + 1])).await;
    assert_eq!(status, 413);
    let (status, _, _) = send(&mut admin, order("POST", "/", &b"\xff"[..])).await;
    assert_eq!(status, 400);
    let mut form = order("POST", "/", "{}");
    form.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    assert_eq!(send(&mut admin, form).await.0, 415);
    let mut twice = order("PURGE", "/x", "");
    twice.headers_mut().append("host", HeaderValue::from_static("other"));
    assert_eq!(send(&mut admin, twice).await.0, 400);
    assert_eq!(admin.store.stats().purges, 1);
}

#[test]
fn a_token_must_be_one() {
    for token in ["", "short", " spaces around it ", "sixteen bytes \u{e4}", "sixteen bytes\n\n\n"] {
        assert_eq!(PurgeService::new(&Cdn::new(0), token).err(), Some(InvalidToken), "{token:?}");
    }
    let text = format!("{:?}", admin());
    assert!(!text.contains("token"), "{text}");
}

#[test]
fn a_purge_by_request_is_that_of_the_url_whatever_its_form() {
    let keys = crate::cdn::CacheKey::new();
    let purge = |uri: &str, fields: &[(&'static str, &'static str)]| {
        let headers =
            fields.iter().map(|(name, value)| ((*name).parse().unwrap(), HeaderValue::from_static(value)));
        order::from_request(&keys, &uri.parse().unwrap(), &headers.collect())
    };
    let expected = Purge::url("http://example.com/x?y").unwrap();
    assert_eq!(purge("/x?y", &[("host", "Example.com:80")]), Ok(expected.clone()));
    assert_eq!(purge("http://example.com/x?y", &[]), Ok(expected.clone()));
    assert_eq!(purge("/x?y", &[("host", "example.com"), ("soft-purge", "1")]), Ok(expected.soft()));
    assert_eq!(purge("/x", &[]), Ok(Purge::url("/x").unwrap()));
}
