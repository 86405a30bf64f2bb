//! Connections to extension servers: TLS by the bundle of their APIService, with this server's client certificate.

use std::{sync::Arc, time::Duration};

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};
use rustls::ClientConfig;
use store::Store;

use crate::{
    backend::insecure,
    callback::{dial::Dialer, tls},
    config::Config,
    http::RequestBody,
    tls::KeyPair,
};

const IDLE: Duration = Duration::from_secs(90);
const IDLE_CONNECTIONS: usize = 16;

pub type HttpsClient = Client<HttpsConnector<Dialer>, RequestBody>;

/// Whose certificates count.
pub enum Trust<'a> {
    /// Those of a bundle (PEM); an empty one means the authorities of the host.
    Bundle(&'a [u8]),
    /// Anybody's.
    Anybody,
}

pub struct Transport {
    store: Arc<dyn Store>,
    certificate: Option<Arc<KeyPair>>,
}

impl Transport {
    pub fn from_config(config: &Config, store: Arc<dyn Store>) -> anyhow::Result<Self> {
        let certificate = match (&config.proxy_client_cert_file, &config.proxy_client_key_file) {
            (Some(certificate), Some(key)) => Some(Arc::new(KeyPair::from_files(certificate, key)?)),
            _ => None,
        };
        Ok(Transport { store, certificate })
    }

    pub fn certificate(&self) -> Option<Arc<KeyPair>> {
        self.certificate.clone()
    }

    /// A client for URLs whose host is a Service, `<name>.<namespace>.svc`. Connections are used again.
    pub fn client(&self, trust: Trust<'_>) -> Result<HttpsClient, String> {
        self.build(trust, true, IDLE_CONNECTIONS)
    }

    /// A client for URLs of hosts, which believes anybody and connects anew for each request.
    pub fn probe(&self) -> Result<HttpsClient, String> {
        self.build(Trust::Anybody, false, 0)
    }

    fn build(&self, trust: Trust<'_>, service: bool, idle: usize) -> Result<HttpsClient, String> {
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(self.tls(trust)?)
            .https_only()
            .enable_http1()
            .wrap_connector(Dialer { store: self.store.clone(), service });
        Ok(Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(idle)
            .build(connector))
    }

    fn tls(&self, trust: Trust<'_>) -> Result<ClientConfig, String> {
        let builder = ClientConfig::builder();
        let builder = match trust {
            Trust::Bundle(bundle) => builder.with_root_certificates(tls::roots(bundle)?),
            Trust::Anybody => builder.dangerous().with_custom_certificate_verifier(insecure::verifier()),
        };
        Ok(match &self.certificate {
            Some(pair) => builder.with_client_cert_resolver(pair.clone()),
            None => builder.with_no_client_auth(),
        })
    }
}
