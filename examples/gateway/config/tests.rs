use super::*;

const ONE: &str = "[[upstream]]\nid = \"a\"\nurl = \"http://a:1\"\n";

fn refused(text: &str) -> String {
    Config::parse(text, "test.toml").expect_err(text).to_string()
}

#[test]
fn the_sample_is_valid() {
    let config = Config::parse(include_str!("../gateway.toml"), "gateway.toml").unwrap();
    assert_eq!(config.upstream.len(), 3);
}

#[test]
fn the_sample_shows_each_default_as_it_is() {
    let (required, optional) = include_str!("../gateway.toml").split_once("[[upstream]]").unwrap();
    let every =
        required.lines().map(|line| line.strip_prefix("#= ").unwrap_or(line)).collect::<Vec<_>>().join("\n");
    let (shown, bare) = (format!("{every}\n{ONE}"), Config::parse(ONE, "").unwrap());
    let shown = Config::parse(&shown, "shown").unwrap_or_else(|problem| panic!("{problem}"));
    assert!(optional.contains("max_in_flight"));
    let apart_from_spans = |config: &Config| {
        let Config { listen, max_connections, trusted_proxies, timeouts, retries, levels, policy, .. } =
            config;
        format!("{listen} {max_connections} {trusted_proxies:?} {timeouts:?} {retries:?} {levels:?} {policy}")
    };
    assert_eq!(apart_from_spans(&shown), apart_from_spans(&bare));
}

#[test]
fn the_sample_shows_every_key_of_tls() {
    let sample = include_str!("../gateway.toml");
    let (_, tls) = sample.split_once("# [tls]\n").unwrap();
    let (tls, _) = tls.split_once("[policy]").unwrap();
    let setting = |line: &&str| line.starts_with('[') || line.contains(" = ");
    let lines: Vec<_> = tls.lines().filter_map(|line| line.strip_prefix("# ")).filter(setting).collect();
    let text = refused(&format!("[tls]\n{}\n{ONE}", lines.join("\n")));
    assert!(text.contains("certificates/shop.pem: cannot read it"), "{text}");
    for key in ["listen", "min_version", "cert", "key", "names", "default"] {
        assert!(lines.iter().any(|line| line.starts_with(&format!("{key} = "))), "{key}");
    }
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
