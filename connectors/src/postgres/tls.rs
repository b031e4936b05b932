//! TLS to the server, as the catalog wants it.

use meshwork_engine::{Error, Result};
use rustls::{ClientConfig, RootCertStore};

use super::configuration::{Configuration, TlsMode};
use crate::tls;

/// Returns how the catalog's sessions are encrypted. Reads the file of authorities, if one is configured.
pub(super) fn client(configuration: &Configuration) -> Result<ClientConfig> {
    let client = match (configuration.tls, &configuration.tls_ca) {
        (TlsMode::Verify, None) => tls::verifying(tls::public_authorities()),
        (TlsMode::Verify, Some(path)) => {
            let mut roots = RootCertStore::empty();
            tls::add_authorities(&mut roots, path).map_err(|error| {
                let (catalog, file) = (&configuration.catalog, path.display());
                Error::user(
                    "CATALOG_CONFIGURATION",
                    format!("catalog \"{catalog}\": tls_ca \"{file}\" is unreadable"),
                )
                .caused_by(error.as_ref())
            })?;
            tls::verifying(roots)
        }
        // What `prefer` and `require` mean, as elsewhere in PostgreSQL: any certificate.
        (TlsMode::Disable | TlsMode::Prefer | TlsMode::Require, _) => tls::trusting(),
    };
    client.map_err(|error| {
        Error::internal("the TLS provider knows no protocol version").caused_by(&error)
    })
}
