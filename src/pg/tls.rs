//! TLS to a server as libpq's `sslmode` words it, by rustls on aws-lc-rs.
//!
//! In:    [`TlsParams`]; files of certificates and keys.
//! Out:   a connector for `tokio_postgres`; the meaning of a failed handshake.
//! Holds: in every mode the server proves that it holds the key of its certificate, which is
//!        what SCRAM's channel binding rests on; no process-wide provider is relied on.
//! Not here: which mode is wanted (`params`), when TLS is tried (`connect`).

use super::params::{RootCertificates, SslMode, TlsParams, Verification};
use super::public::io_text;
use crate::error::{Failure, Kind};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio_postgres_rustls::MakeRustlsConnect;

/// Makes the connector for `params`, reading the files they name.
///
/// # Errors
/// 78 for a file that is missing or holds no certificate or key, or an encrypted key; 77 for
/// one that may not be read. The failure does not say which connection: the caller does.
pub(super) fn connector(params: &TlsParams) -> Result<MakeRustlsConnect, Failure> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let versions: &[_] = match params.only_tls13 {
        true => &[&rustls::version::TLS13],
        false => &[&rustls::version::TLS13, &rustls::version::TLS12],
    };
    let verifier = Verifier {
        verification: params.verification(),
        trusted: trusted(params)?,
        provider: provider.clone(),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(|error| Failure::new(Kind::Unclassified, format!("TLS cannot be set up: {error}")))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match &params.identity {
        Some((certificate, key)) if params.mode != SslMode::Disable => builder
            .with_client_auth_cert(certificates(certificate, "sslcert")?, private_key(key)?)
            .map_err(|_| Failure::config("its sslkey does not belong to its sslcert"))?,
        _ => builder.with_no_client_auth(),
    };
    if params.direct {
        config.alpn_protocols = vec![b"postgresql".to_vec()];
    }
    Ok(MakeRustlsConnect::new(config))
}

/// Root certificates, in both forms that verification asks for.
#[derive(Debug)]
struct Trusted {
    roots: RootCertStore,
    certificates: Vec<CertificateDer<'static>>,
}

fn trusted(params: &TlsParams) -> Result<Trusted, Failure> {
    let none = params.mode == SslMode::Disable || params.verification() == Verification::Nothing;
    let certificates = match &params.roots {
        _ if none => Vec::new(),
        RootCertificates::File(path) => certificates(path, "sslrootcert")?,
        RootCertificates::System | RootCertificates::Unset => rustls_native_certs::load_native_certs().certs,
    };
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(certificates.iter().cloned());
    if usable == 0 && !none {
        return Err(Failure::config("there is no usable root certificate to verify the server against")
            .hint("Name a file of PEM certificates as sslrootcert."));
    }
    Ok(Trusted { roots, certificates })
}

fn certificates(path: &Path, option: &str) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(found) if found.is_empty() => Err(unreadable(option, path, "it holds no PEM certificate")),
        Ok(found) => Ok(found),
        Err(error) => Err(unusable(option, path, &error)),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Failure> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| match &error {
        // An "ENCRYPTED PRIVATE KEY" is no kind of key that rustls knows.
        pem::Error::NoItemsFound => unreadable("sslkey", path, "it holds no PEM key that is not encrypted"),
        _ => unusable("sslkey", path, &error),
    })
}

fn unreadable(option: &str, path: &Path, why: &str) -> Failure {
    Failure::config(format!("its {option} {} cannot be used: {why}", path.display()))
}

fn unusable(option: &str, path: &Path, error: &pem::Error) -> Failure {
    match error {
        pem::Error::Io(io) => {
            let mut failure = unreadable(option, path, &io_text(io));
            if io.kind() == io::ErrorKind::PermissionDenied {
                failure.kind = Kind::Permission;
            }
            failure
        }
        _ => unreadable(option, path, "it is no PEM file"),
    }
}

/// Verifies as much as was asked for.
#[derive(Debug)]
struct Verifier {
    verification: Verification,
    trusted: Trusted,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn verify_chain(
        &self,
        server: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let algorithms = self.provider.signature_verification_algorithms.all;
        let parsed = ParsedCertificate::try_from(server)?;
        let verdict =
            verify_server_cert_signed_by_trust_anchor(&parsed, &self.trusted.roots, others, now, algorithms);
        match verdict {
            // `openssl req -x509`, as in PostgreSQL's manual, marks the server's own certificate
            // as an authority; OpenSSL takes it where it is itself the root, and so do we.
            // Its dates have been checked before its constraints.
            Err(error)
                if used_as_its_own_authority(&error)
                    && self.trusted.certificates.iter().any(|root| root == server) =>
            {
                Ok(())
            }
            other => other,
        }
    }
}

fn used_as_its_own_authority(error: &rustls::Error) -> bool {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::Other(other)) => {
            format!("{other:?}").contains("CaUsedAsEndEntity")
        }
        _ => false,
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.verification != Verification::Nothing {
            self.verify_chain(end_entity, intermediates, now)?;
        }
        if self.verification == Verification::ChainAndName {
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The TLS error under `error`, if TLS is what failed.
pub(super) fn tls_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        // An io::Error hides the error it wraps from `source`.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(found) = inner.and_then(|inner| inner.downcast_ref()).or(error.downcast_ref()) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// What a failed handshake means: 78 if it is ours or the certificate's fault (a retry cannot
/// mend it and no grant is missing), 77 if the server refused our certificate.
pub(super) fn cause(error: &rustls::Error) -> Failure {
    let untrusted = |why: &str| Failure::config(format!("the server's certificate is not trusted: {why}"));
    let certificate = match error {
        rustls::Error::InvalidCertificate(certificate) => certificate,
        rustls::Error::AlertReceived(alert) => return alert_cause(*alert),
        other => return Failure::config(format!("TLS failed: {other}")),
    };
    match certificate {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => untrusted("it has expired")
            .hint("Renew the server's certificate; check this machine's clock too."),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            untrusted("it is not valid yet").hint("Check this machine's clock.")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            untrusted("it is not for this host name")
                .hint("Name the host as the certificate's subjectAltName does (its CN is not enough), or use sslmode=verify-ca.")
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => untrusted("no root certificate vouches for it")
            .hint("Name the authority that signed it as sslrootcert."),
        _ if used_as_its_own_authority(error) => untrusted("it is marked as an authority, and is not itself the sslrootcert")
            .hint("Name that very certificate as sslrootcert."),
        other => untrusted(&other.to_string()),
    }
}

fn alert_cause(alert: AlertDescription) -> Failure {
    use AlertDescription as Alert;
    match alert {
        Alert::UnknownCA
        | Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateExpired
        | Alert::CertificateRevoked
        | Alert::CertificateUnknown
        | Alert::CertificateRequired
        | Alert::DecryptError // signed by another authority of the same name
        | Alert::AccessDenied => {
            Failure::permission(format!("the server refused our certificate ({alert:?})"))
                .hint("Check sslcert and sslkey of the connection.")
        }
        other => Failure::config(format!("the server ended the TLS handshake ({other:?})")),
    }
}
