//! sd_notify(3), as much as a service of Type=notify needs. Depends on no other crate of ours.

use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Tells systemd that the service is up; without systemd it does nothing.
pub fn ready() {
    use std::os::linux::net::SocketAddrExt;
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let name = path.as_encoded_bytes();
    let address = match name.strip_prefix(b"@") {
        Some(abstract_name) => SocketAddr::from_abstract_name(abstract_name),
        None => SocketAddr::from_pathname(&path),
    };
    let sent = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(b"READY=1", &address));
    if let Err(error) = sent {
        tracing::warn!(%error, "cannot tell systemd that the service is ready");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::process::Command;

    use super::*;

    /// The environment is the process': the test starts itself with the variable set.
    #[test]
    fn systemd_hears_of_it() {
        if std::env::var_os("NOTIFY_SOCKET").is_some() {
            return ready();
        }
        let path = std::env::temp_dir().join(format!("kinstall-notify-{}", std::process::id()));
        let socket = UnixDatagram::bind(&path).unwrap();
        let test = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tests::systemd_hears_of_it"])
            .env("NOTIFY_SOCKET", &path)
            .status()
            .unwrap();
        assert!(test.success());
        let mut message = [0; 64];
        let length = socket.recv(&mut message).unwrap();
        assert_eq!(&message[..length], b"READY=1");
        std::fs::remove_file(path).unwrap();
    }
}
