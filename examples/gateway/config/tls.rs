//! Certificates, read and checked with the rest of the configuration.

use std::{
    collections::HashMap,
    fs,
    net::SocketAddr,
    ops::Range,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use serde::{Deserialize, Deserializer};
use tokio_rustls::rustls::{
    Error, InconsistentKeys, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{CertificateDer, DnsName, PrivateKeyDer, pem, pem::PemObject},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use toml::Spanned;
use webpki::EndEntityCert;

use super::{
    problem::line_of,
    value::{addr, parsed},
};
use crate::tls::{Certificates, wildcard};

/// Where clients come in over https, and what they get to see there.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tls {
    #[serde(deserialize_with = "addr")]
    pub(crate) listen: SocketAddr,
    #[serde(default)]
    min_version: MinVersion,
    #[serde(default)]
    certificate: Vec<Certificate>,
    /// What is in the files.
    #[serde(skip)]
    pub(crate) certificates: Arc<Certificates>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Certificate {
    cert: Spanned<PathBuf>,
    key: Spanned<PathBuf>,
    /// All that the certificate is for, unless given.
    names: Option<Vec<Spanned<String>>>,
    #[serde(default)]
    default: bool,
}

#[derive(Clone, Copy, Debug, Default)]
enum MinVersion {
    #[default]
    Tls12,
    Tls13,
}

/// A mistake, and where it is if it is in one place.
type Mistake = (Option<Range<usize>>, String);

impl Tls {
    /// The versions of TLS that are spoken.
    pub(crate) fn versions(&self) -> Vec<&'static SupportedProtocolVersion> {
        match self.min_version {
            MinVersion::Tls12 => vec![&TLS13, &TLS12],
            MinVersion::Tls13 => vec![&TLS13],
        }
    }

    /// Reads the files, whose names are relative to `directory`. The text is that of the configuration.
    pub(super) fn load(&mut self, directory: &Path, text: &str) -> Result<(), Mistake> {
        if self.certificate.is_empty() {
            let message =
                "[tls] lacks a certificate: name at least one, as [[tls.certificate]] with `cert` and `key`";
            return Err((None, message.to_owned()));
        }
        let mut all = Certificates::default();
        let mut lines = HashMap::new();
        let mut default_line = None;
        for certificate in &self.certificate {
            let span = certificate.cert.span();
            let line = line_of(text, span.start);
            let (shown, names) = certificate.load(directory)?;
            if certificate.default {
                if let Some(earlier) = default_line.replace(line) {
                    let message =
                        format!("a certificate is the default, but that of line {earlier} is already");
                    return Err((Some(span), message));
                }
                all.default = Some(Arc::clone(&shown));
            }
            for name in names {
                if let Some(earlier) = lines.insert(name.clone(), line).filter(|earlier| *earlier != line) {
                    let message = format!(
                        "the certificate of line {earlier} is for {name} too: let `names` say which is shown"
                    );
                    return Err((Some(span), message));
                }
                all.by_name.insert(name, Arc::clone(&shown));
            }
        }
        self.certificates = Arc::new(all);
        Ok(())
    }
}

impl Certificate {
    /// The certificate with its key, and the names that it is shown for.
    fn load(&self, directory: &Path) -> Result<(Arc<CertifiedKey>, Vec<String>), Mistake> {
        let chain = read(directory, &self.cert, |bytes| {
            CertificateDer::pem_slice_iter(bytes).collect::<Result<Vec<_>, _>>()
        })?;
        let Some(first) = chain.first() else {
            return Err(at(
                &self.cert,
                "there is no certificate in it: begin with -----BEGIN CERTIFICATE-----",
            ));
        };
        let known = match EndEntityCert::try_from(first) {
            Ok(parsed) => parsed.valid_dns_names().map(str::to_ascii_lowercase).collect::<Vec<_>>(),
            Err(error) => return Err(at(&self.cert, format!("it is no certificate of a server: {error}"))),
        };
        let names = match &self.names {
            Some(names) => names.iter().map(|name| checked(name, &known)).collect::<Result<_, _>>()?,
            None => known,
        };
        if names.is_empty() && !self.default {
            return Err(at(
                &self.cert,
                "it is for no DNS name, so nobody gets to see it: make it the `default`",
            ));
        }
        let key = read(directory, &self.key, PrivateKeyDer::from_pem_slice)?;
        let shown = CertifiedKey::from_der(chain, key, &ring::default_provider());
        let shown = shown.map_err(|error| match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                at(&self.key, format!("it is not the key of {}", self.cert.get_ref().display()))
            }
            other => at(&self.key, format!("the key is of no use here: {other}")),
        })?;
        Ok((Arc::new(shown), names))
    }
}

/// What a file holds.
fn read<T>(
    directory: &Path,
    file: &Spanned<PathBuf>,
    parse: impl Fn(&[u8]) -> Result<T, pem::Error>,
) -> Result<T, Mistake> {
    let path = directory.join(file.get_ref());
    let bytes = fs::read(&path).map_err(|error| at(file, format!("cannot read it: {error}")))?;
    parse(&bytes).map_err(|error| match error {
        pem::Error::NoItemsFound => at(file, "there is no private key in it that is not encrypted"),
        other => at(file, format!("it is not in PEM: {other}")),
    })
}

fn at(file: &Spanned<PathBuf>, message: impl AsRef<str>) -> Mistake {
    (Some(file.span()), format!("{}: {}", file.get_ref().display(), message.as_ref()))
}

/// A name that a certificate may be shown for, out of those that it is for.
fn checked(name: &Spanned<String>, known: &[String]) -> Result<String, Mistake> {
    let wrong = |message| Err((Some(name.span()), message));
    let name = name.get_ref().to_ascii_lowercase();
    if DnsName::try_from(name.strip_prefix("*.").unwrap_or(&name)).is_err() {
        return wrong(format!("{name:?} is no DNS name: write it like shop.example.com or *.example.com"));
    }
    if !known.contains(&name) && !wildcard(&name).is_some_and(|wildcard| known.contains(&wildcard)) {
        return wrong(format!("the certificate is not for {name}, but for [{}]", known.join(", ")));
    }
    Ok(name)
}

impl FromStr for MinVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "1.2" => Ok(Self::Tls12),
            "1.3" => Ok(Self::Tls13),
            _ => Err(format!("{text:?} is no version of TLS that is safe: write \"1.2\" or \"1.3\"")),
        }
    }
}

impl<'de> Deserialize<'de> for MinVersion {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        parsed(from)
    }
}
