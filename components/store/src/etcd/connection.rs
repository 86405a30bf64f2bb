//! The members of etcd: one is asked, the next when it fails.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};
use tokio::time::Instant;

use super::EtcdConfig;
use super::translate::{Failure, failure};
use crate::{Error, Result};

/// How long one member may take to answer where another can be asked: longer than an election.
const ATTEMPT: Duration = Duration::from_secs(3);
/// How long a request goes on with other members before it fails.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two attempts; grows up to ten times this.
const PAUSE: Duration = Duration::from_millis(20);
/// A connection on which nothing comes back for this long is lost.
const ALIVE: Duration = Duration::from_secs(2);

pub struct Members {
    clients: Vec<(String, Client)>,
    asked: AtomicUsize,
}

/// A call failed and may be tried again.
pub struct Attempts {
    until: Instant,
    pause: Duration,
}

impl Attempts {
    pub fn new() -> Self {
        Self { until: Instant::now() + PATIENCE, pause: PAUSE }
    }

    /// Waits a moment; false when there was patience enough.
    pub async fn again(&mut self) -> bool {
        if Instant::now() + self.pause > self.until {
            return false;
        }
        // what to wait for cannot be known: the member is gone, or elects a leader
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE * 10);
        true
    }
}

impl Members {
    /// Nothing is dialled yet.
    pub async fn new(config: &EtcdConfig) -> Result<Self> {
        if config.endpoints.is_empty() {
            return Err(Error::Unavailable("no etcd endpoints are configured".into()));
        }
        let mut options = ConnectOptions::new()
            .with_keep_alive(ALIVE, ALIVE)
            .with_keep_alive_while_idle(true)
            .with_connect_timeout(ALIVE)
            .with_require_leader(true);
        if let Some(ca) = &config.ca {
            let mut tls = TlsOptions::new().ca_certificate(Certificate::from_pem(ca));
            if let Some((certificate, key)) = &config.identity {
                tls = tls.identity(Identity::from_pem(certificate, key));
            }
            options = options.with_tls(tls);
        }
        let mut clients = Vec::with_capacity(config.endpoints.len());
        for endpoint in &config.endpoints {
            let client = Client::connect([endpoint], Some(options.clone()))
                .await
                .map_err(|error| Error::Unavailable(format!("cannot use the etcd endpoint {endpoint}: {error}")))?;
            clients.push((endpoint.clone(), client));
        }
        Ok(Self { clients, asked: AtomicUsize::new(0) })
    }

    /// The member that is asked now.
    pub fn current(&self) -> (usize, Client) {
        let index = self.asked.load(Ordering::Relaxed) % self.clients.len();
        (index, self.clients[index].1.clone())
    }

    pub fn name(&self, index: usize) -> &str {
        self.clients.get(index).map_or("", |(name, _)| name)
    }

    /// The next one from now on, unless somebody has moved on already.
    pub fn leave(&self, index: usize) {
        let next = (index + 1) % self.clients.len();
        // lost races are fine: somebody else moved on
        let _ = self.asked.compare_exchange(index, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// One attempt with the current member, which is left when it fails in passing.
    pub async fn attempt<T, F>(&self, call: impl FnOnce(Client) -> F) -> std::result::Result<T, Failure>
    where
        F: Future<Output = std::result::Result<T, etcd_client::Error>>,
    {
        let (index, client) = self.current();
        // where nobody else can be asked, an end before its time only makes of a slow write one of which nobody knows
        let longest = if self.clients.len() == 1 { PATIENCE } else { ATTEMPT };
        let failed = match tokio::time::timeout(longest, call(client)).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => failure(error),
            Err(_) => Failure::Passing(format!("no answer for {} s", longest.as_secs())),
        };
        if let Failure::Passing(why) = failed {
            self.leave(index);
            return Err(Failure::Passing(format!("{}: {why}", self.name(index))));
        }
        Err(failed)
    }

    /// Asks one member after another until one answers. Only for what may be done twice.
    pub async fn ask<T, F>(&self, what: &str, call: impl Fn(Client) -> F) -> Result<T>
    where
        F: Future<Output = std::result::Result<T, etcd_client::Error>>,
    {
        let mut attempts = Attempts::new();
        loop {
            match self.attempt(&call).await {
                Ok(answer) => return Ok(answer),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(why)) => {
                    if !attempts.again().await {
                        return Err(Error::Unavailable(format!("etcd does not answer ({what}): {why}")));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn the_only_member_may_take_its_time() {
        let took = |endpoints: Vec<String>| async move {
            let members = Members::new(&EtcdConfig { endpoints, ..EtcdConfig::default() }).await.unwrap();
            let slow = |_| async {
                tokio::time::sleep(ATTEMPT + Duration::from_millis(500)).await;
                Ok(())
            };
            members.attempt(slow).await
        };
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let (alone, among_others) = tokio::join!(took(vec![url(1)]), took(vec![url(1), url(2)]));
        assert!(alone.is_ok());
        assert!(matches!(among_others, Err(Failure::Passing(why)) if why.contains("no answer for 3 s")));
    }
}
