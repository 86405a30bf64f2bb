use nix::errno::Errno;

/// What the kernel refused, and on which object.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel answered a request with an error.
    #[error("{action}: {errno}")]
    Kernel { action: String, errno: Errno },
    /// The socket itself failed.
    #[error("netlink socket: {0}")]
    Socket(Errno),
    /// An answer of the kernel could not be read.
    #[error("netlink answer cannot be read: {0}")]
    Malformed(&'static str),
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The kernel's error number, if the kernel gave one.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Error::Kernel { errno, .. } | Error::Socket(errno) => Some(*errno),
            Error::Malformed(_) => None,
        }
    }

    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self.errno(), Some(Errno::ENOENT | Errno::ENODEV | Errno::ESRCH | Errno::ENXIO))
    }

    #[must_use]
    pub fn is_exists(&self) -> bool {
        self.errno() == Some(Errno::EEXIST)
    }
}

/// Makes deleting idempotent: what is not there is already deleted.
pub trait IgnoreMissing {
    fn ignore_missing(self) -> Result<()>;
}

impl IgnoreMissing for Result<()> {
    fn ignore_missing(self) -> Result<()> {
        match self {
            Err(error) if error.is_not_found() => Ok(()),
            other => other,
        }
    }
}
