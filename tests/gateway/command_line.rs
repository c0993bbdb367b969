//! What it says, and what it does not accept.

use std::process::Output;

use tokio::net::TcpListener;

use crate::{
    process::{File, Gateway, run},
    support::soon,
};

fn error(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test]
async fn without_upstreams_it_brings_its_own() {
    let mut gateway = Gateway::start(&[]).await;
    let (status, body) = gateway.get("/x").await;
    assert_eq!(status, 200);
    assert!(body.ends_with(" says hello from /x\n"), "{body}");
    // The output of a process that is no terminal has lines, and no escapes.
    loop {
        let line = soon(gateway.lines.recv()).await.unwrap();
        assert!(!line.contains('\x1b'), "{line}");
        if line.starts_with("1 requests, 0 errors, 0 in flight; fast up ") {
            break;
        }
    }
    let status = gateway.status().await;
    let ids: Vec<_> = status["nodes"].as_array().unwrap().iter().map(|node| node["id"].clone()).collect();
    assert_eq!(ids, ["fast", "medium", "slow"]);
}

#[tokio::test]
async fn help_and_version_are_printed() {
    for (flag, start) in [("--help", "A load-balancing HTTP gateway"), ("--version", "gateway 0.")] {
        let output = run(&[flag]).await;
        assert_eq!(output.status.code(), Some(0));
        assert!(String::from_utf8(output.stdout).unwrap().starts_with(start));
    }
}

#[tokio::test]
async fn a_wrong_command_line_ends_with_2_and_says_why() {
    let cases: [(&[&str], &str); 4] = [
        (&["--lisen"], "error: \"--lisen\" is no option of mine\ntry --help\n"),
        (&["--listen", "8080"], "error: --listen: \"8080\" is not an address"),
        (&["--upstream", "ftp://a"], "error: --upstream: the scheme \"ftp\" is not supported"),
        (&["--config", "/no/such.toml"], "error: /no/such.toml: cannot read it: No such file"),
    ];
    for (arguments, start) in cases {
        let output = run(arguments).await;
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(error(&output).starts_with(start), "{}", error(&output));
    }
}

#[tokio::test]
async fn a_wrong_file_ends_with_2_and_the_line_and_the_key() {
    let one = "[[upstream]]\nid = \"a\"\nurl = \"http://127.0.0.1:1\"\n";
    let cases = [
        ("wait = 1\n".to_owned(), ":1:1: unknown field `wait`", "  1 | wait = 1\n"),
        (format!("{one}{one}"), ":5:6: `id` \"a\" is taken since line 2", "  5 | id = \"a\"\n"),
        (
            "[[upstream]]\nid = \"a\"\nurl = \"a:1\"\n".to_owned(),
            ":3:7: \"a:1\" is not the URL",
            "  3 | url = \"a:1\"\n",
        ),
    ];
    for (text, place, line) in cases {
        let file = File::new(&text);
        let output = run(&["--config", file.path()]).await;
        assert_eq!(output.status.code(), Some(2), "{text}");
        let error = error(&output);
        assert!(error.starts_with(&format!("error: {}{place}", file.path())), "{error}");
        assert!(error.contains(line), "{error}");
    }
}

#[tokio::test]
async fn a_taken_address_ends_with_1_and_a_remedy() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    for flag in ["--listen", "--admin"] {
        let free = if flag == "--listen" { "--admin" } else { "--listen" };
        let output = run(&[flag, &addr, free, "127.0.0.1:0"]).await;
        assert_eq!(output.status.code(), Some(1));
        let error = error(&output);
        assert!(
            error.starts_with(&format!("error: cannot listen on {addr}: Address already in use")),
            "{error}"
        );
        assert!(error.contains(flag), "{error}");
    }
}
