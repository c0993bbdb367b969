//! What no single value tells: whether the parts of a file go together.

use std::{collections::HashMap, path::Path};

use toml::Spanned;

use super::{
    Config, DEFAULT_CLUSTER, Policy, Upstream, Url,
    problem::{Mistake, line_of, mistake},
    route,
};

impl Config {
    pub(super) fn check(&self, text: &str) -> Result<(), Mistake> {
        self.check_upstreams(text)?;
        self.check_clusters()?;
        route::check(&self.route, text)?;
        let told = [&self.proxy_protocol].into_iter().chain(self.tcp.iter().map(|tcp| &tcp.proxy_protocol));
        for on in told.flatten() {
            if *on.get_ref() && self.trusted_proxies.is_empty() {
                return Err(mistake(on, "nobody is believed: name the proxies in `trusted_proxies`"));
            }
        }
        Ok(())
    }

    /// Reads the files that are named.
    pub(super) fn load(&mut self, directory: &Path, text: &str) -> Result<(), Mistake> {
        let own = self.cluster.values_mut().filter_map(|own| own.sticky.as_mut());
        own.chain(&mut self.sticky).try_for_each(|sticky| sticky.load(directory))?;
        self.tls.iter_mut().try_for_each(|tls| tls.load(directory, text))
    }

    fn check_upstreams(&self, text: &str) -> Result<(), Mistake> {
        if self.upstream.is_empty() {
            let message = "there is no upstream: name at least one, as [[upstream]] with `id` and `url`";
            return Err((None, message.to_owned()));
        }
        let mut first = HashMap::new();
        for upstream in &self.upstream {
            let Upstream { id, url, cluster, http2, proxy_protocol, .. } = upstream;
            if id.get_ref().as_str().is_empty() {
                return Err(mistake(id, "`id` is empty: give the upstream a name"));
            }
            if let Some(earlier) = first.insert(id.get_ref(), id.span()) {
                let line = line_of(text, earlier.start);
                let message =
                    format!("`id` {:?} is taken since line {line}: give each upstream its own", id.get_ref());
                return Err(mistake(id, message));
            }
            let is_tcp = matches!(url.get_ref(), Url::Tcp(_));
            match (http2, proxy_protocol) {
                (Some(http2), _) if is_tcp => {
                    return Err(mistake(http2, "`http2` is for HTTP, and this upstream is TCP"));
                }
                (_, Some(version)) if !is_tcp => {
                    let message = "`proxy_protocol` is for TCP: over HTTP, headers tell of the client";
                    return Err(mistake(version, message));
                }
                _ => {}
            }
            let other = self.nodes(cluster.get_ref()).find(|node| {
                matches!(node.url.get_ref(), Url::Tcp(_)) != is_tcp
                    && node.url.span().start < url.span().start
            });
            if let Some(other) = other {
                let line = line_of(text, other.url.span().start);
                let message = format!(
                    "cluster {:?} has HTTP and TCP upstreams, such as that of line {line}: give them a \
                     cluster each",
                    cluster.get_ref()
                );
                return Err(mistake(url, message));
            }
        }
        Ok(())
    }

    fn check_clusters(&self) -> Result<(), Mistake> {
        let known = |cluster: &Spanned<String>| {
            if self.nodes(cluster.get_ref()).next().is_some() {
                return Ok(());
            }
            let message =
                format!("cluster {:?} has no upstream: name it in one, as `cluster`", cluster.get_ref());
            Err(mistake(cluster, message))
        };
        for (name, own) in &self.cluster {
            known(name)?;
            if self.is_tcp(name.get_ref()) && own.sticky.is_some() {
                return Err(mistake(name, "TCP connections have no cookies to be sticky by"));
            }
            if self.is_tcp(name.get_ref()) && own.overload.is_some() {
                return Err(mistake(name, "`overload` is for HTTP: bound TCP with `max_connections`"));
            }
        }
        let policies = self.cluster.values().filter_map(|own| own.policy.as_ref());
        if let Some((span, message)) = policies.chain([&self.policy]).find_map(Policy::misfit) {
            return Err((Some(span), message));
        }
        for route in &self.route {
            let cluster = &route.get_ref().cluster;
            if cluster.get_ref() == DEFAULT_CLUSTER && self.nodes(DEFAULT_CLUSTER).next().is_none() {
                let message = "there is no default cluster: say with `cluster` where the route leads";
                return Err((Some(route.span()), message.to_owned()));
            }
            known(cluster)?;
            if self.is_tcp(cluster.get_ref()) {
                let message = format!("cluster {:?} is TCP, and no route leads there", cluster.get_ref());
                return Err(mistake(cluster, message + ": use [[tcp]]"));
            }
        }
        for tcp in &self.tcp {
            known(&tcp.cluster)?;
            if !self.is_tcp(tcp.cluster.get_ref()) {
                let message = format!("cluster {:?} is HTTP", tcp.cluster.get_ref());
                return Err(mistake(&tcp.cluster, message + ": for TCP, begin its URLs with tcp://"));
            }
        }
        self.check_that_each_is_used()
    }

    fn check_that_each_is_used(&self) -> Result<(), Mistake> {
        for upstream in &self.upstream {
            let cluster = &upstream.cluster;
            let name = cluster.get_ref();
            let (is_used, remedy) = if self.is_tcp(name) {
                (self.tcp.iter().any(|tcp| tcp.cluster.get_ref() == name), "a [[tcp]]")
            } else {
                let is_meant = |route: &Spanned<route::Route>| route.get_ref().cluster.get_ref() == name;
                (name == DEFAULT_CLUSTER || self.route.iter().any(is_meant), "a [[route]]")
            };
            if !is_used {
                // The default cluster is not named.
                let place = if name == DEFAULT_CLUSTER { upstream.url.span() } else { cluster.span() };
                let message = format!("nothing leads to cluster {name:?}: add {remedy} to it");
                return Err((Some(place), message));
            }
        }
        Ok(())
    }
}
