//! What is found out about the nodes: by checks, and from their traffic.

use std::{ops::RangeInclusive, str::FromStr, time::Duration};

use buttress::{
    cluster::SlowStart,
    health::{GrpcCheck, HttpCheck, Monitor, MonitorBuilder, OutlierDetection},
};
use hyper::http::uri::Authority;
use serde::Deserialize;

use super::value::{parsed_list, some_parsed, some_span, span, unless_zero};

/// How nodes are asked how they are.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "UncheckedHealth")]
pub(crate) struct Health {
    settings: UncheckedHealth,
    pub(crate) check: Check,
}

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) enum Check {
    Http(Box<HttpCheck>),
    Grpc(GrpcCheck),
    Tcp,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct UncheckedHealth {
    enabled: bool,
    path: String,
    #[serde(deserialize_with = "some_parsed")]
    host: Option<Authority>,
    #[serde(deserialize_with = "parsed_list")]
    expect_status: Vec<Statuses>,
    /// The gRPC service that is asked for; all of the server, if it is empty.
    grpc: Option<String>,
    tcp: bool,
    #[serde(deserialize_with = "span")]
    interval: Duration,
    #[serde(deserialize_with = "some_span")]
    timeout: Option<Duration>,
    rise: u32,
    fall: u32,
}

impl Health {
    pub(super) fn is_enabled(&self) -> bool {
        self.settings.enabled
    }

    pub(crate) fn monitor(&self) -> MonitorBuilder {
        let UncheckedHealth { interval, timeout, rise, fall, .. } = self.settings;
        let monitor = Monitor::builder().interval(interval).rise(rise).fall(fall);
        match timeout {
            Some(timeout) => monitor.timeout(timeout),
            None => monitor,
        }
    }
}

/// Asks for `/` every few seconds.
impl Default for Health {
    fn default() -> Self {
        UncheckedHealth::default().try_into().expect("the defaults make sense")
    }
}

impl TryFrom<UncheckedHealth> for Health {
    type Error = String;

    fn try_from(settings: UncheckedHealth) -> Result<Self, String> {
        let UncheckedHealth { path, host, expect_status, grpc, tcp, interval, timeout, .. } = &settings;
        let check = match (grpc, tcp) {
            (Some(_), true) => return Err("`grpc` and `tcp` exclude each other".to_owned()),
            (Some(service), false) => {
                let check = GrpcCheck::new().service(service);
                Check::Grpc(match host {
                    Some(host) => check.host(host.clone()),
                    None => check,
                })
            }
            (None, true) => Check::Tcp,
            (None, false) => {
                let mut check = HttpCheck::new(path).map_err(|error| error.to_string())?;
                for Statuses(range) in expect_status {
                    check = check.expect_status(range.clone());
                }
                Check::Http(Box::new(match host {
                    Some(host) => check.host(host.clone()),
                    None => check,
                }))
            }
        };
        if timeout.is_some_and(|timeout| timeout >= *interval) {
            return Err("`timeout` must be shorter than `interval`".to_owned());
        }
        if settings.rise == 0 || settings.fall == 0 {
            return Err("`rise` and `fall` must be at least 1".to_owned());
        }
        Ok(Self { settings, check })
    }
}

impl Default for UncheckedHealth {
    fn default() -> Self {
        Self {
            enabled: true,
            path: "/".to_owned(),
            host: None,
            expect_status: Vec::new(),
            grpc: None,
            tcp: false,
            interval: Duration::from_secs(5),
            timeout: None,
            rise: 2,
            fall: 3,
        }
    }
}

/// One status, or several in a row: `204`, `200-299`.
#[derive(Clone, Debug)]
struct Statuses(RangeInclusive<u16>);

impl FromStr for Statuses {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (first.parse(), last.parse()) {
            (Ok(first @ 100..), Ok(last @ ..=599)) if first <= last => Ok(Self(first..=last)),
            _ => Err("it is neither a status nor a range of them: write \"204\" or \"200-299\"".to_owned()),
        }
    }
}

/// Which nodes are ejected for what becomes of their requests: see [`OutlierDetection`].
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Outlier {
    enabled: bool,
    consecutive_failures: u32,
    consecutive_local_failures: u32,
    failure_ratio: f64,
    success_rate: f64,
    latency: f64,
    min_volume: u64,
    #[serde(deserialize_with = "span")]
    interval: Duration,
    #[serde(deserialize_with = "span")]
    base_ejection: Duration,
    #[serde(deserialize_with = "span")]
    max_ejection: Duration,
    max_share: u32,
}

impl Outlier {
    pub(crate) fn detection(&self) -> Option<OutlierDetection> {
        let detection = OutlierDetection::new()
            .consecutive_failures(unless_zero(self.consecutive_failures))
            .consecutive_local_failures(unless_zero(self.consecutive_local_failures))
            .failure_ratio(unless_zero(self.failure_ratio))
            .success_rate(unless_zero(self.success_rate))
            .latency(unless_zero(self.latency))
            .min_volume(self.min_volume)
            .interval(self.interval)
            .base_ejection(self.base_ejection)
            .max_ejection(self.max_ejection)
            .max_share(self.max_share);
        self.enabled.then_some(detection)
    }
}

impl Default for Outlier {
    fn default() -> Self {
        Self {
            enabled: true,
            consecutive_failures: 5,
            consecutive_local_failures: 5,
            failure_ratio: 0.0,
            success_rate: 1.9,
            latency: 0.0,
            min_volume: 100,
            interval: Duration::from_secs(10),
            base_ejection: Duration::from_secs(5),
            max_ejection: Duration::from_secs(300),
            max_share: 50,
        }
    }
}

/// How long a node that returns takes to get its full share.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Warmup {
    enabled: bool,
    #[serde(deserialize_with = "span")]
    window: Duration,
}

impl Warmup {
    pub(crate) fn slow_start(&self) -> Option<SlowStart> {
        self.enabled.then(|| SlowStart::new(self.window))
    }
}

impl Default for Warmup {
    fn default() -> Self {
        Self { enabled: true, window: Duration::from_secs(10) }
    }
}
