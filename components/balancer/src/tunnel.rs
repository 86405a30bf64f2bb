//! One client's connection, carried to a server.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::pool::Pool;
use crate::server::Server;

/// For a connection to a server.
const CONNECT: Duration = Duration::from_secs(1);
/// The kernel asks a silent host this often, and gives it up after `DEAD` without an acknowledgement.
const PROBE: Duration = Duration::from_secs(1);
const DEAD: Duration = Duration::from_secs(3);
/// Bytes on their way in one direction.
const BUFFER: usize = 32 * 1024;

/// Carries bytes until one side has ended, or the server is abandoned.
pub async fn run(pool: Arc<Pool>, mut client: TcpStream) {
    let Some((server, mut stream)) = first(&pool).await else {
        tracing::warn!("no API server can be reached; a client is turned away");
        return;
    };
    let _counted = server.connection();
    // small requests must not wait for each other
    let _ = client.set_nodelay(true);
    tokio::select! {
        // how a connection ended, its two ends see for themselves
        _ = copy_bidirectional_with_sizes(&mut client, &mut stream, BUFFER, BUFFER) => {}
        () = server.until_abandoned() => {}
    }
}

/// A connection to the first server that takes it.
async fn first(pool: &Pool) -> Option<(Arc<Server>, TcpStream)> {
    for server in pool.order() {
        match connect(&server).await {
            Ok(stream) => return Some((server, stream)),
            Err(error) => {
                tracing::debug!(server = %server.address, "{error:#}");
                server.doubted.notify_one();
            }
        }
    }
    None
}

pub async fn connect(server: &Server) -> anyhow::Result<TcpStream> {
    let stream = timeout(CONNECT, TcpStream::connect(server.address)).await.context("no answer")?.context("refused")?;
    attend(&stream).context("cannot set up the connection")?;
    Ok(stream)
}

/// Lets the kernel notice a host that is gone without a word.
fn attend(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(PROBE).with_interval(PROBE))?;
    socket.set_tcp_user_timeout(Some(DEAD))
}
