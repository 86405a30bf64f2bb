//! The cluster's DNS: names of Services, their endpoints and pods; everything else is forwarded.
//!
//! In: watches of Services, EndpointSlices and Namespaces; queries by UDP and TCP. Out: answers as the specification of DNS-based service
//! discovery wants them (<https://github.com/kubernetes/dns/blob/master/docs/specification.md>). A client of the Kubernetes API and of
//! the host's resolvers, nothing else. hickory-proto does the wire format; what to answer is [`zone`]'s, which is pure.

mod follow;
pub mod forward;
pub mod health;
pub mod serve;
pub mod zone;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use kube::Client;
use parking_lot::RwLock;
use tokio::net::{TcpListener, UdpSocket};

use forward::Forwarder;
use serve::Server;
use zone::Zone;

/// How long answers still come after SIGTERM: proxies need to hear that this instance goes.
const LAME_DUCK: Duration = Duration::from_secs(5);

/// Flags of `kinstall-components dns`.
#[derive(Debug, Clone, Parser)]
pub struct Args {
    /// Where to answer, by UDP and TCP.
    #[arg(long, default_value = "0.0.0.0:53")]
    pub listen: SocketAddr,
    /// The cluster's domain.
    #[arg(long, default_value = "cluster.local")]
    pub domain: String,
    /// Resolvers for all other names, each an address with or without a port; the `nameserver` lines of `--resolv-conf` when not given.
    #[arg(long, value_delimiter = ',', value_parser = parse_upstream)]
    pub upstream: Vec<SocketAddr>,
    /// Where to read resolvers from.
    #[arg(long, default_value = "/etc/resolv.conf")]
    pub resolv_conf: std::path::PathBuf,
    /// Where `/health` and `/ready` are served.
    #[arg(long, default_value = "0.0.0.0:8080")]
    pub health: SocketAddr,
    /// The Service's own address, so that it is never taken for a resolver.
    #[arg(long)]
    pub own_address: Vec<IpAddr>,
}

fn parse_upstream(text: &str) -> Result<SocketAddr, String> {
    let with_port = text.parse::<SocketAddr>();
    let without = || text.parse::<IpAddr>().map(|address| SocketAddr::new(address, 53));
    with_port.or_else(|_| without()).map_err(|_| format!("{text} is not an address like 192.0.2.1 or 192.0.2.1:53"))
}

/// Serves until SIGTERM.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let client = client::in_cluster().await?;
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
    let shutdown = async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => return Duration::ZERO,
        }
        LAME_DUCK
    };
    serve(client, args, shutdown).await
}

/// Serves with a given client until `shutdown` resolves, and then as long as it says.
pub async fn serve(client: Client, args: Args, shutdown: impl Future<Output = Duration>) -> anyhow::Result<()> {
    let upstream = match args.upstream.is_empty() {
        false => args.upstream.clone(),
        true => forward::from_resolv_conf(&args.resolv_conf, &args.own_address),
    };
    tracing::info!(domain = args.domain, ?upstream, listen = %args.listen, "serving cluster DNS");
    let zone = Arc::new(RwLock::new(Zone::new(&args.domain)?));
    let udp = UdpSocket::bind(args.listen).await.with_context(|| format!("cannot listen on {} (udp)", args.listen))?;
    let tcp =
        TcpListener::bind(args.listen).await.with_context(|| format!("cannot listen on {} (tcp)", args.listen))?;
    let health = TcpListener::bind(args.health).await.with_context(|| format!("cannot listen on {}", args.health))?;
    let readiness = health::Readiness::default();
    let server = Arc::new(Server::new(Arc::clone(&zone), Forwarder::new(upstream), readiness.clone()));
    let duck = readiness.clone();
    tokio::select! {
        () = follow::all(client, zone, readiness.clone()) => {}
        () = Arc::clone(&server).udp(udp) => {}
        () = server.tcp(tcp) => {}
        () = health::serve(health, readiness) => {}
        () = async {
            let rest = shutdown.await;
            duck.leave();
            tokio::time::sleep(rest).await;
        } => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn upstreams_with_and_without_port() {
        let args = Args::parse_from(["dns", "--upstream", "192.0.2.1,192.0.2.2:5353,2001:db8::1"]);
        let told: Vec<String> = args.upstream.iter().map(ToString::to_string).collect();
        assert_eq!(told, ["192.0.2.1:53", "192.0.2.2:5353", "[2001:db8::1]:53"]);
        assert!(Args::try_parse_from(["dns", "--upstream", "example.com"]).is_err());
    }
}
