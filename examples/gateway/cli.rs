//! The command line.

use std::{fmt::Display, net::SocketAddr, path::PathBuf, str::FromStr};

use crate::config::{Addr, Config, Policy, Upstream, Url};

const HELP: &str = "\
A load-balancing HTTP gateway, built from buttress.

Usage: gateway [OPTIONS]

Without --upstream and --config it starts three small web servers of different speed and stands in front of them.

Options:
  --listen ADDR    where clients come in [127.0.0.1:8080]
  --admin ADDR     where status and control are, for trusted people only [127.0.0.1:8081 or the next that is free]
  --upstream URL   a server to pass requests on to, such as http://10.0.0.7:8080 or https://shop.internal; may be given
                   several times
  --config FILE    all there is to set, in TOML: clusters and routes, health checks, ejection, retries, sticky sessions,
                   limits, TLS, TCP; examples/gateway/gateway.toml shows every key
  --policy NAME    how a server is chosen: least_response_time (unless given), least_request, round_robin,
                   weighted_round_robin, random, weighted_random, ip_hash, consistent_hash
  --help           prints this
  --version        prints the version

SIGTERM and Ctrl-C end it after the requests that it has; a second one ends it at once.
Exit codes: 0 ended as told, 1 it could not run or finish, 2 the command line or the configuration is wrong.";

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Command {
    Print(&'static str),
    Run(Box<Args>),
}

/// What the command line says of the gateway.
#[derive(Debug, Default)]
pub(crate) struct Args {
    pub(crate) config: Option<PathBuf>,
    listen: Option<SocketAddr>,
    admin: Option<SocketAddr>,
    policy: Option<Policy>,
    upstreams: Vec<Upstream>,
}

impl Args {
    /// What the command line says goes before what the file says.
    pub(crate) fn override_config(self, config: &mut Config) {
        if let Some(listen) = self.listen {
            config.listen = listen;
        }
        if let Some(policy) = self.policy {
            config.policy = policy;
        }
        config.admin = self.admin.or(config.admin);
        config.upstream.extend(self.upstreams);
    }
}

/// Reads the arguments, without the name of the program.
pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Command, String> {
    let mut args = Args::default();
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let (name, attached) = match argument.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (argument.as_str(), None),
        };
        let mut value = || match attached.clone().or_else(|| arguments.next()) {
            Some(value) if !value.is_empty() && !value.starts_with("--") => Ok(value),
            _ => Err(format!("{name} wants a value")),
        };
        match name {
            "--help" | "-h" => return Ok(Command::Print(HELP)),
            "--version" | "-V" => {
                return Ok(Command::Print(concat!("gateway ", env!("CARGO_PKG_VERSION"))));
            }
            "--listen" => once(&mut args.listen, name, read::<Addr>(name, &value()?)?.0)?,
            "--admin" => once(&mut args.admin, name, read::<Addr>(name, &value()?)?.0)?,
            "--config" => once(&mut args.config, name, value()?.into())?,
            "--policy" => once(&mut args.policy, name, read(name, &value()?)?)?,
            "--upstream" => {
                let upstream = Upstream::at(read::<Url>(name, &value()?)?);
                if matches!(upstream.url.get_ref(), Url::Tcp(_)) {
                    return Err(format!("{name}: TCP takes a --config, with a [[tcp]] that leads there"));
                }
                if args.upstreams.iter().any(|other| other.id == upstream.id) {
                    return Err(format!("--upstream: {} is given twice", upstream.id.get_ref()));
                }
                args.upstreams.push(upstream);
            }
            _ => return Err(format!("{argument:?} is no option of mine")),
        }
    }
    if args.config.is_some() && !args.upstreams.is_empty() {
        return Err("--upstream and --config exclude each other: name the upstream in the file".into());
    }
    Ok(Command::Run(Box::new(args)))
}

fn read<T: FromStr<Err: Display>>(name: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|error| format!("{name}: {error}"))
}

fn once<T>(place: &mut Option<T>, name: &str, value: T) -> Result<(), String> {
    match place.replace(value) {
        Some(_) => Err(format!("{name} is given twice")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(arguments: &[&str]) -> Result<Args, String> {
        match parse(arguments.iter().map(ToString::to_string))? {
            Command::Run(args) => Ok(*args),
            Command::Print(text) => panic!("printed {text}"),
        }
    }

    #[test]
    fn values_come_after_a_space_or_an_equals_sign() -> Result<(), String> {
        let args = run(&["--listen", "[::1]:1", "--upstream=http://a:1/x", "--upstream", "http://b:2"])?;
        assert_eq!(args.listen, "[::1]:1".parse().ok());
        let ids: Vec<_> = args.upstreams.iter().map(|upstream| upstream.id.get_ref().as_str()).collect();
        assert_eq!(ids, ["a:1/x", "b:2"]);
        Ok(())
    }

    #[test]
    fn mistakes_are_named_with_their_option() {
        let wrong = |arguments: &[&str]| run(arguments).unwrap_err();
        assert_eq!(wrong(&["--lisen", "x"]), "\"--lisen\" is no option of mine");
        assert_eq!(wrong(&["--listen"]), "--listen wants a value");
        assert_eq!(wrong(&["--listen", "--admin"]), "--listen wants a value");
        assert_eq!(wrong(&["--listen=127.0.0.1:1", "--listen=127.0.0.1:2"]), "--listen is given twice");
        assert_eq!(
            wrong(&["--upstream=http://a:1", "--upstream=http://a:1"]),
            "--upstream: a:1 is given twice"
        );
        assert!(wrong(&["--listen", "8080"]).starts_with("--listen: \"8080\" is not an address"));
        assert!(wrong(&["--upstream", "ftp://a"]).starts_with("--upstream: the scheme"));
        assert!(wrong(&["--policy", "fastest"]).contains("least_response_time"));
        assert!(wrong(&["--config=a", "--upstream=http://a:1"]).contains("exclude each other"));
    }
}
