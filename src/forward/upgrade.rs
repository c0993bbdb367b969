//! Connections that stop being HTTP: WebSocket and whatever else a client and a server agree upon.

use std::time::Duration;

use http::HeaderValue;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::UpgradeLease;
use super::tcp::Tunnel;

/// The upgrade that a client asks for: its side of the tunnel, and the protocols it named.
pub(super) struct Asked {
    pub(super) client: OnUpgrade,
    pub(super) protocols: HeaderValue,
}

impl Asked {
    /// Whether the server switches to something the client named.
    pub(super) fn offers(&self, chosen: &HeaderValue) -> bool {
        let chosen = chosen.as_bytes().trim_ascii();
        protocols(&self.protocols).any(|protocol| protocol.eq_ignore_ascii_case(chosen))
    }

    /// Joins the two sides in a task, which ends when both have closed, one has failed, or both were silent for too long.
    pub(super) fn join(self, server: OnUpgrade, lease: Option<UpgradeLease>, idle_timeout: Option<Duration>) {
        tokio::spawn(async move {
            // The client's side is ready once the 101 has gone out; until then nothing is read from it.
            let (Ok(client), Ok(server)) = (self.client.await, server.await) else { return };
            let mut tunnel =
                Tunnel::new(TokioIo::new(client), TokioIo::new(server)).idle_timeout(idle_timeout);
            if idle_timeout.is_none() {
                tunnel = tunnel.half_close_timeout(None);
            }
            // How a tunnel ends is for its two ends to know.
            let _ = tunnel.await;
            drop(lease);
        });
    }
}

/// Whether a proxy may pass on the wish for these protocols: not if one of them is HTTP again, since all requests
/// inside such a tunnel would pass by every rule of the proxy.
pub(super) fn tunnels(value: &HeaderValue) -> bool {
    !protocols(value).any(|protocol| {
        let name = protocol.split(|b| *b == b'/').next().unwrap_or_default();
        [b"h2c".as_slice(), b"h2", b"h3", b"http", b"tls"].iter().any(|http| name.eq_ignore_ascii_case(http))
    })
}

fn protocols(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|b| *b == b',').map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_is_not_tunnelled_through_http() {
        for (value, wanted) in [
            ("websocket", true),
            ("foo/2, websocket", true),
            ("h2c", false),
            ("websocket, H2C", false),
            ("HTTP/2.0", false),
            ("TLS/1.2", false),
        ] {
            assert_eq!(tunnels(&HeaderValue::from_static(value)), wanted, "{value}");
        }
    }
}
