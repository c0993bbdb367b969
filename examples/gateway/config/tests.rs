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

/// An upstream of this cluster.
fn upstream(id: &str, cluster: &str, url: &str) -> String {
    format!("[[upstream]]\nid = \"{id}\"\ncluster = \"{cluster}\"\nurl = \"{url}\"\n")
}

#[test]
fn parts_that_do_not_go_together_are_placed_at_one_of_them() {
    let api = upstream("api-1", "api", "http://b:1");
    let db = upstream("db-1", "db", "tcp://c:1");
    let route = |lines: &str| format!("{api}[[route]]\ncluster = \"api\"\n{lines}");
    let cases = [
        // Clusters.
        ("[[route]]\ncluster = \"ap\"".to_owned(), "2:11: cluster \"ap\" has no upstream"),
        ("[cluster.ap.policy]".to_owned(), "1:10: cluster \"ap\" has no upstream"),
        ("[[tcp]]\nlisten = \"[::]:1\"\ncluster = \"ap\"".to_owned(), "3:11: cluster \"ap\" has no"),
        (api.clone(), "3:11: nothing leads to cluster \"api\": add a [[route]] to it"),
        (db.clone(), "3:11: nothing leads to cluster \"db\": add a [[tcp]] to it"),
        (
            upstream("x", "default", "tcp://c:1"),
            "8:7: cluster \"default\" has HTTP and TCP upstreams, such as that of line 4",
        ),
        (format!("{db}[[route]]\ncluster = \"db\""), "6:11: cluster \"db\" is TCP"),
        (
            "[[tcp]]\nlisten = \"[::]:1\"\ncluster = \"default\"".to_owned(),
            "3:11: cluster \"default\" is HTTP",
        ),
        (format!("[cluster.db.overload]\n{db}"), "1:10: `overload` is for HTTP"),
        ("cluster.default.policy.choices = 3".to_owned(), "1:34: `choices` is a setting of least_request"),
        // Routes.
        (route("prefix = \"/a/\""), "5:1: the prefix must not end with a slash"),
        (route("hosts = [\"a b\"]"), "5:1: `a b` is no host"),
        (route("prefix = \"/a\"\npath = \"/a\""), "5:1: `path` and `prefix` exclude each other"),
        (route("methods = [\"G T\"]"), "7:11: \"G T\": invalid HTTP method"),
        (route("path = \"/a\"\nrewrite = \"/b\""), "5:1: `/b` cannot be put in place"),
        (
            format!("{0}path = \"/{{a}}\"\n[[route]]\npath = \"/{{b}}\"", route("")),
            "8:1: a request could match this route and that of line 5: ask for more",
        ),
        (
            format!("{0}[[route]]\ncluster = \"api\"", route("")),
            "7:1: a request could match this route and that",
        ),
        // Single tables.
        ("proxy_protocol = true".to_owned(), "1:18: nobody is believed: name the proxies"),
        ("[retries]\nbackoff = \"2s\"".to_owned(), "1:1: a backoff from 2s cannot end at 1s"),
        ("[retries]\nhedge_quantile = 95.0".to_owned(), "1:1: hedging at the quantile 95 makes no sense"),
        ("[health]\ninterval = \"1s\"\ntimeout = \"1s\"".to_owned(), "1:1: `timeout` must be shorter"),
        ("[health]\npath = \"up\"".to_owned(), "1:1: \"up\" is not the path of a request"),
        ("[health]\nexpect_status = [\"2xx\"]".to_owned(), "2:17: \"2xx\": it is neither a status"),
        ("[overload]\nalgorithm = \"aimd\"".to_owned(), "1:1: aimd wants a `threshold`"),
        ("[overload]\nalgorithm = \"magic\"".to_owned(), "2:13: \"magic\" is no algorithm of mine"),
        ("[overload]\nlimit = 3".to_owned(), "1:1: `limit` is no setting of gradient"),
        ("[sticky]\nkeys = [\"short\"]".to_owned(), "2:9: [sticky] key 0 has 5 bytes"),
        (
            "[sticky]\nkeys = [\"file:no/such.key\"]".to_owned(),
            "2:9: no/such.key: cannot read it: No such file",
        ),
        ("[sticky]".to_owned(), " [sticky] there is no key"),
        (
            format!("[sticky]\ncookie = \"a b\"\nkeys = [\"{}\"]", "k".repeat(32)),
            "2:10: [sticky] \"a b\" cannot be the name of a cookie",
        ),
        ("[sticky]\nsame_site = \"no\"".to_owned(), "2:13: \"no\" is none of"),
        (
            format!("{}proxy_protocol = \"v3\"", upstream("x", "db", "tcp://c:1")),
            "5:18: \"v3\" is no version",
        ),
        (
            format!("{}proxy_protocol = \"v1\"", upstream("x", "default", "http://c:1")),
            "5:18: `proxy_protocol` is for TCP",
        ),
        (upstream("x", "db", "tcp://c"), "4:7: \"tcp://c\" has no host and port"),
    ];
    for (lines, start) in cases {
        let text = refused(&format!("{lines}\n{ONE}"));
        assert!(text.starts_with(&format!("test.toml:{start}")), "{start}\n{text}");
    }
}

#[test]
fn a_cluster_has_tables_of_its_own() {
    let text = "[queue]\n[health]\n[cluster.api.queue]\nenabled = false\n[cluster.api.health]\ntcp = true\n\
                [[route]]\ncluster = \"api\"\n";
    let text = format!("{text}{}{ONE}", upstream("b", "api", "http://b:1"));
    let config = Config::parse(&text, "").unwrap_or_else(|problem| panic!("{problem}"));
    let (all, api) = (config.settings("default"), config.settings("api"));
    assert!(all.queue().is_some() && api.queue().is_none());
    assert!(matches!(all.health.unwrap().check, Check::Http(_)));
    assert!(matches!(api.health.unwrap().check, Check::Tcp));
    assert!(all.sticky.is_none() && all.outlier.detection().is_some());
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
