//! A caching gateway: run it with nothing, or in front of origins of your own.
//!
//! ```sh
//! cargo run --release --example cdn                                              # a tour, with an origin of its own
//! cargo run --release --example cdn -- --listen 0.0.0.0:8080 --origin http://10.0.0.7:8080
//! cargo run --release --example cdn -- --config examples/cdn/cdn.toml            # all there is to set
//! ```
//!
//! | file | what it is |
//! |---|---|
//! | `config` | the command line and the configuration file |
//! | `stack` | **the services: proxy, cache, balance, upstream** |
//! | `server` | connections: accept, pass interim responses on, finish |
//! | `admin` | the admin port: statistics, purges |
//! | `tour` | an origin that stands in for yours, and what the cache makes of it |

mod admin;
mod config;
mod server;
mod stack;
mod tour;

use std::{error::Error, process::ExitCode};

use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::config::{Command, Config};

#[tokio::main]
async fn main() -> ExitCode {
    let config = match config::command(std::env::args().skip(1)) {
        Ok(Command::Help) => {
            println!("{}", config::HELP);
            return ExitCode::SUCCESS;
        }
        Ok(Command::Run(config)) => config,
        Err(wrong) => {
            eprintln!("error: {wrong}");
            return ExitCode::from(2);
        }
    };
    match run(*config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(mut config: Config) -> Result<(), Box<dyn Error>> {
    let is_tour = config.origin.is_empty();
    if is_tour {
        config.origin = vec![tour::origin().await?];
    }
    let gateway = stack::build(&config)?;
    let listener = TcpListener::bind(config.listen).await?;
    let addr = listener.local_addr()?;
    println!("listening on http://{addr}");
    for origin in &config.origin {
        println!("in front of {}", origin.url);
    }
    let stop = stop_signal()?;
    if let Some(admin) = &config.admin {
        let router = admin::router(&gateway.cdn, &admin.token)?;
        let listener = TcpListener::bind(admin.listen).await?;
        println!("statistics and purges on http://{}", listener.local_addr()?);
        tokio::spawn(admin::serve(listener, router));
    }
    let server = server::run(listener, gateway.proxy, &config, stop);
    if is_tour {
        let server = tokio::spawn(server);
        tour::run(addr, &gateway.cdn).await?;
        server.await?;
    } else {
        server.await;
    }
    Ok(())
}

/// Changes with the first SIGTERM or SIGINT; the second of them ends the process at once.
fn stop_signal() -> Result<watch::Receiver<bool>, std::io::Error> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (stop, told) = watch::channel(false);
    tokio::spawn(async move {
        let mut either = async || tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} };
        either().await;
        stop.send_replace(true);
        either().await;
        std::process::exit(1);
    });
    Ok(told)
}
