use super::*;

const ONE: &str = "[[upstream]]\nid = \"a\"\nurl = \"http://a:1\"\n";

fn refused(text: &str) -> String {
    Config::parse(text, "test.toml").expect_err(text).to_string()
}

const SAMPLE: &str = include_str!("../gateway.toml");

#[test]
fn the_sample_is_valid() {
    let config = Config::parse(SAMPLE, "gateway.toml").unwrap();
    assert_eq!(config.upstream.len(), 3);
}

/// The tables of the sample that are not lists, those that are commented out included, with the lines that `keep` lets
/// through.
fn tables(keep: impl Fn(&str) -> Option<&str>) -> String {
    let is_head =
        |line: &&str| line.starts_with('[') && !line.starts_with("[[") && !line.contains("cluster.api");
    let mut lines = Vec::new();
    let mut in_list = false;
    for line in SAMPLE.lines() {
        let bare = line.strip_prefix("# ").unwrap_or(line);
        if bare.starts_with('[') {
            in_list = !is_head(&bare) || bare == "[tls]";
            lines.extend(Some(bare).filter(|_| !in_list));
        } else if !in_list {
            lines.extend(keep(line));
        }
    }
    // Keys that the tables cannot do without.
    let required = |line: &str| match line {
        "[sticky]" => format!("{line}\nkeys = [{:?}]", "k".repeat(32)),
        _ => line.to_owned(),
    };
    lines.into_iter().map(required).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_sample_shows_each_default_as_it_is() {
    let parsed = |tables: &str| {
        let text = format!("{tables}\n{ONE}");
        let config = Config::parse(&text, "sample").unwrap_or_else(|problem| panic!("{problem}\n{text}"));
        let debug = format!("{:?}", Config { upstream: Vec::new(), ..config });
        // Where a value stands is no part of it.
        let parts = debug
            .split("Spanned { span: ")
            .map(|part| part.trim_start_matches(|c: char| "0123456789.".contains(c)));
        parts.collect::<String>()
    };
    let shown = tables(|line| line.strip_prefix("#= "));
    let bare = tables(|_| None);
    assert!(shown.lines().count() > bare.lines().count() + 40, "{shown}");
    assert_eq!(parsed(&shown), parsed(&bare));
}

#[test]
fn the_sample_shows_every_key() {
    let settings = |line: &str| {
        let line = line.trim_start_matches(['#', '=', ' ']);
        let (key, _) = line.split_once(" = ")?;
        key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_').then(|| key.to_owned())
    };
    let shown: std::collections::HashSet<String> = SAMPLE.lines().filter_map(settings).collect();
    // What each table expects is what its error tells.
    let tables = [
        "",
        "[timeouts]",
        "[policy]",
        "[retries]",
        "[queue]",
        "[levels]",
        "[health]",
        "[outlier]",
        "[slow_start]",
        "[sticky]",
        "[overload]",
        "[tls]",
        "[[tls.certificate]]",
        "[[route]]",
        "[[tcp]]",
        "[[upstream]]",
    ];
    for table in tables {
        let text = refused(&format!("{table}\nunknown_key = 1\n"));
        let (_, expected) =
            text.split_once("expected one of ").or(text.split_once("expected ")).expect(&text);
        let keys: Vec<_> = expected.lines().next().unwrap().split('`').skip(1).step_by(2).collect();
        assert!(!keys.is_empty(), "{text}");
        for key in keys {
            let is_table = [format!("[{key}"), format!(".{key}]")].iter().any(|head| SAMPLE.contains(head));
            assert!(is_table || shown.contains(key), "{key} of {table}");
        }
    }
}

#[test]
fn the_sample_of_tls_is_read() {
    let (_, tls) = SAMPLE.split_once("# [tls]\n").unwrap();
    let (tls, _) = tls.split_once("\n[").unwrap();
    let setting = |line: &&str| line.starts_with('[') || line.contains(" = ");
    let lines: Vec<_> = tls.lines().filter_map(|line| line.strip_prefix("# ")).filter(setting).collect();
    let text = refused(&format!("[tls]\n{}\n{ONE}", lines.join("\n")));
    assert!(text.contains("certificates/shop.pem: cannot read it"), "{text}");
}

#[test]
fn an_empty_file_lacks_an_upstream() {
    assert!(refused("").starts_with("test.toml: there is no upstream"));
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    let text = refused(&format!("lisen = \"127.0.0.1:1\"\n{ONE}"));
    assert!(text.starts_with("test.toml:1:1: unknown field `lisen`, expected one of `listen`"), "{text}");
    assert!(text.ends_with("\n  1 | lisen = \"127.0.0.1:1\"\n    | ^^^^^"), "{text}");
    let text = refused(&format!("{ONE}wait = 2\n"));
    assert!(text.starts_with("test.toml:4:1: unknown field `wait`"), "{text}");
}

#[test]
fn a_duplicate_id_names_both_lines() {
    let text = refused(&format!("{ONE}{ONE}"));
    assert!(text.starts_with("test.toml:5:6: `id` \"a\" is taken since line 2"), "{text}");
}

#[test]
fn bad_values_are_placed_at_the_value() {
    let cases = [
        ("listen = \"8080\"", "1:10: \"8080\" is not an address"),
        ("max_connections = -1", "1:19: invalid value: integer `-1`"),
        (
            "trusted_proxies = [\"10.0.0.0/8\",\n\"10.0.0.0/99\"]",
            "1:19: \"10.0.0.0/99\": a prefix of 99 bits",
        ),
        ("[timeouts]\nconnect = \"2 weeks\"", "2:11: \"2 weeks\" is not a span of time"),
        ("[timeouts]\nconnect = \"0s\"", "2:11: \"0s\" is not a span of time"),
        ("[retries]\nbudget = 1.5", "2:10: give a ratio"),
        ("policy.name = \"fastest\"", "1:15: \"fastest\" is no policy of mine"),
        ("policy.choices = 3", "1:18: `choices` is a setting of least_request"),
        ("[[upstream]]\nid = \"b\"\nurl = \"ftp://b\"", "3:7: the scheme \"ftp\" is not supported"),
        (
            "[[upstream]]\nid = \"b\"\nurl = \"http://b\"\nweight = 70000",
            "4:10: invalid value: integer `70000`",
        ),
        ("[[upstream]]\nid = \"\"\nurl = \"http://b\"", "2:6: `id` is empty"),
        ("[[upstream]]\nid = \"b\"", "1:1: missing field `url`"),
        ("listen = ", "1:10: "),
    ];
    for (lines, start) in cases {
        let text = refused(&format!("{lines}\n{ONE}"));
        assert!(text.starts_with(&format!("test.toml:{start}")), "{start}\n{text}");
    }
}
