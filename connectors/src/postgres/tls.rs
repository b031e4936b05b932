//! TLS to the server: rustls with the ring provider, never another.

use std::sync::Arc;

use meshwork_engine::{Error, Result};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::configuration::{Configuration, TlsMode};

/// Returns what makes TLS sessions for the catalog. Reads the file of authorities, if one is configured.
pub(super) fn connector(configuration: &Configuration) -> Result<MakeRustlsConnect> {
    match (configuration.tls, &configuration.tls_ca) {
        (TlsMode::Verify, None) => {
            // The driver's own constructor asks for the process's provider; ours is the only one there is,
            // so that somebody else installed it first is no error.
            if CryptoProvider::get_default().is_none() {
                ring::default_provider().install_default().unwrap_or_default();
            }
            Ok(MakeRustlsConnect::with_webpki_roots())
        }
        (TlsMode::Verify, Some(path)) => {
            let unreadable = |error: &(dyn std::error::Error + 'static)| {
                let file = path.display();
                Error::user(
                    "CATALOG_CONFIGURATION",
                    format!(
                        "catalog \"{}\": tls_ca \"{file}\" is unreadable",
                        configuration.catalog
                    ),
                )
                .caused_by(error)
            };
            let mut roots = RootCertStore::empty();
            let certificates = CertificateDer::pem_file_iter(path).map_err(|e| unreadable(&e))?;
            for certificate in certificates {
                roots.add(certificate.map_err(|e| unreadable(&e))?).map_err(|e| unreadable(&e))?;
            }
            let builder = builder()?.with_root_certificates(roots);
            Ok(MakeRustlsConnect::new(builder.with_no_client_auth()))
        }
        (TlsMode::Disable | TlsMode::Prefer | TlsMode::Require, _) => {
            let verifier = Arc::new(AnyCertificate(ring::default_provider()));
            let builder = builder()?.dangerous().with_custom_certificate_verifier(verifier);
            Ok(MakeRustlsConnect::new(builder.with_no_client_auth()))
        }
    }
}

fn builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>> {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::internal("the TLS provider knows no protocol version").caused_by(&e))
}

/// Accepts any certificate: what `prefer` and `require` mean, as elsewhere in PostgreSQL. The handshake's
/// signature is still checked.
#[derive(Debug)]
struct AnyCertificate(CryptoProvider);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
