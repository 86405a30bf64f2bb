//! How a host gets the executable from another one before anything of ours is there: a few lines for bash, which can open
//! connections, and coreutils. `components/converge/src/peers` is the other side.

use std::net::SocketAddr;

/// A host that cannot be reached may not even say so.
const CONNECT_SECONDS: u64 = 3;
/// Who gives fewer bytes a second is not worth waiting for.
const BYTES_A_SECOND: u64 = 4 << 20;

/// A command of a POSIX shell that puts the blob into `$t`; `$f` is a [`line`]. Fails where there is no bash, no way, or no answer.
/// What it puts there may be anything. No single quote in it.
pub fn script(sha256: &str, size: u64) -> String {
    let seconds = CONNECT_SECONDS + 5 + size / BYTES_A_SECOND;
    // the token is never on a command line: `printf`, `echo` and `read` are the shell's own
    format!(
        "{{ a=${{f%% *}}; k=${{f#* }}; p=${{k%% *}}; k=${{k#* }}; \
         timeout {CONNECT_SECONDS} bash -c \"exec 3<>/dev/tcp/$a/$p\" && \
         printf \"%s\\n\" \"$k\" | timeout {seconds} bash -c \"h() {{ printf %s \\$1 | sha256sum | cut -c-64; }}; \
         read -r k && exec 3<>/dev/tcp/$a/$p && read -r -t 5 n <&3 && m=\\$(h \\$k\\$(h \\$k\\${{n}}{sha256})) && \
         echo whole {sha256} \\$m >&3 && head -c {size} <&3 > $t\"; }} 2>/dev/null"
    )
}

/// Where the blob is, and what proves that one may have it.
pub fn line(from: SocketAddr, token: &str) -> String {
    format!("{} {} {token}\n", from.ip(), from.port())
}
