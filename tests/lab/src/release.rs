//! Which Debian a host or an image is made of.

use clap::ValueEnum;

/// By its suite's name; hosts of several live side by side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Release {
    /// Debian 12, which most hosts and all images are.
    #[default]
    Bookworm,
    /// Debian 13.
    Trixie,
}

impl Release {
    pub const ALL: [Self; 2] = [Self::Bookworm, Self::Trixie];

    /// As archives, caches and the command line call it.
    pub fn suite(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        }
    }

    pub fn of_suite(suite: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|release| release.suite() == suite)
    }
}

impl std::fmt::Display for Release {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.suite())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suite_is_one_name_everywhere() {
        for release in Release::ALL {
            assert_eq!(Release::of_suite(release.suite()), Some(release));
            assert_eq!(<Release as ValueEnum>::from_str(release.suite(), false), Ok(release));
        }
        assert_eq!(Release::of_suite("sid"), None);
    }
}
