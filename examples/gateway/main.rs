//! A working gateway: run it with nothing, or in front of servers of your own.
//!
//! ```sh
//! cargo run --release --example gateway                  # three web servers of different speed and a gateway
//! cargo run --release --example gateway -- --help        # in front of your servers
//! ```
//!
//! | file | what it is |
//! |---|---|
//! | `cli` | the command line |
//! | `config` | the configuration file, checked as it is read |
//! | `stack` | **the services: proxy, route, sticky, limit, retry, balance, upstream** |
//! | `pool` | the clusters, with health checks and outlier detection |
//! | `priority` | how much requests matter |
//! | `server` | connections: accept, bound, finish |
//! | `tcp` | connections that carry no HTTP |
//! | `tls` | https: handshakes, and which certificate is shown to whom |
//! | `admin` | the admin port |
//! | `status` | what is measured of the nodes |
//! | `view`, `table` | the terminal |
//! | `embedded` | the web servers that stand in for yours |

mod admin;
mod cli;
mod config;
mod embedded;
mod pool;
mod priority;
mod server;
mod stack;
mod status;
mod table;
mod tcp;
mod tls;
mod view;

use std::{net::SocketAddr, process::ExitCode, sync::Arc};

use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::{
    cli::{Args, Command},
    config::{Config, Problem},
    server::{Doors, Server},
    status::Status,
    tcp::Passage,
    tls::Terminator,
};

/// Where the admin port is when nobody says where, and how many ports further it may go when others have it.
const ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8081);
const ADMIN_TRIES: u16 = 20;

/// Why the gateway did not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command line makes no sense.
    #[error("{0}\ntry --help")]
    Usage(String),
    /// The configuration makes no sense.
    #[error("{0}")]
    Config(#[from] Problem),
    /// A cluster cannot be as it is told to be.
    #[error("cluster {name:?}: {reason}")]
    Cluster { name: String, reason: String },
    /// An address is taken, or not ours.
    #[error("cannot listen on {addr}: {source}\n{remedy}")]
    Listen { addr: SocketAddr, remedy: &'static str, source: std::io::Error },
    /// TLS cannot be spoken.
    #[error("cannot speak TLS: {0}")]
    Tls(#[from] tokio_rustls::rustls::Error),
    /// The system refused something else.
    #[error("{0}")]
    System(#[from] std::io::Error),
    /// The end came before all requests were finished.
    #[error("stopped with {0} connections still open")]
    Unfinished(usize),
}

impl Failure {
    /// 2 when the caller must write something else, 1 when the world is not as it should be.
    fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Config(_) | Self::Cluster { .. } => 2,
            Self::Listen { .. } | Self::Tls(_) | Self::System(_) | Self::Unfinished(_) => 1,
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match cli::parse(std::env::args().skip(1)) {
        Ok(Command::Print(text)) => {
            println!("{text}");
            Ok(())
        }
        Ok(Command::Run(args)) => run(*args).await,
        Err(wrong) => Err(Failure::Usage(wrong)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

async fn run(args: Args) -> Result<(), Failure> {
    let mut config = match &args.config {
        Some(file) => Config::read(file)?,
        None => Config::default(),
    };
    args.override_config(&mut config);
    let is_demo = config.upstream.is_empty();
    if is_demo {
        config.upstream = embedded::start().await?;
        config.health = Some(config::Health::default());
    }

    let gateway = stack::build(&config)?;
    let clear = listen(config.listen, "choose another address with --listen").await?;
    let tls = match &config.tls {
        Some(tls) => {
            let listener =
                listen(tls.listen, "choose another address in the configuration, at [tls]").await?;
            let certificates = Arc::clone(&tls.certificates);
            Some((listener, Terminator::new(certificates, &tls.versions(), config.timeouts.handshake)?))
        }
        None => None,
    };
    let passages = tcp::open(&config, &gateway).await?;
    let admin = listen_admin(config.admin).await?;
    let doors = Doors { clear, tls };
    let banner = view::Banner {
        addr: doors.clear.local_addr()?,
        tls: doors.tls.as_ref().map(|(listener, _)| listener.local_addr()).transpose()?,
        tcp: passages.iter().map(Passage::ends).collect::<Result<_, _>>()?,
        admin: admin.local_addr()?,
        is_demo,
    };

    let server = Server::new(gateway.proxy, &config);
    let status = Arc::new(Status::new(gateway.pools.clone(), server.connections()));
    let admin = tokio::spawn(admin::serve(admin, gateway.pools, Arc::clone(&status)));
    let view = tokio::spawn(view::run(banner, status));

    let stop = stop_signal()?;
    let (unfinished, cut_off) =
        tokio::join!(server.run(doors, stop.clone().told()), tcp::serve(passages, &stop));
    // What the terminal showed last stays; the admin port stayed open while requests were finished.
    view.abort();
    admin.abort();
    match unfinished + cut_off {
        0 => Ok(()),
        open => Err(Failure::Unfinished(open)),
    }
}

async fn listen(addr: SocketAddr, remedy: &'static str) -> Result<TcpListener, Failure> {
    TcpListener::bind(addr).await.map_err(|source| Failure::Listen { addr, remedy, source })
}

/// The admin port that was asked for, or the first that is free.
async fn listen_admin(asked: Option<SocketAddr>) -> Result<TcpListener, Failure> {
    if let Some(addr) = asked {
        return listen(addr, "choose another address with --admin").await;
    }
    for step in 0..ADMIN_TRIES {
        let addr = SocketAddr::new(ADMIN.ip(), ADMIN.port() + step);
        if let Ok(listener) = TcpListener::bind(addr).await {
            return Ok(listener);
        }
    }
    listen(ADMIN, "choose another address with --admin").await
}

/// Tells of the end, to as many as want to know.
#[derive(Clone)]
pub(crate) struct Stop(watch::Receiver<()>);

impl Stop {
    /// Ends with the first SIGTERM or SIGINT.
    pub(crate) async fn told(mut self) {
        // Nothing is ever sent: the sender goes.
        drop(self.0.changed().await);
    }
}

/// Waits for SIGTERM and SIGINT. The second of them ends the process at once.
fn stop_signal() -> Result<Stop, Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (stop, told) = watch::channel(());
    tokio::spawn(async move {
        let mut either = async || tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} };
        either().await;
        drop(stop);
        either().await;
        eprintln!("stopped at once");
        std::process::exit(1);
    });
    Ok(Stop(told))
}
