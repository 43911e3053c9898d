//! Open files: every WebSocket and every ICE-TCP connection is one, and 1,024, the usual limit, is soon reached.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// As many as are asked for; the hard limit may be a thousand times that, and tables grow with it.
const WANTED: u64 = 65_536;

/// Raises the soft limit as far as the hard one allows.
pub(super) fn raise_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        let wanted = WANTED.min(hard);
        if soft >= wanted {
            return Ok(());
        }
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard)
    });
    if let Err(error) = raised {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_raised_to_what_is_wanted_or_allowed() {
        raise_limit();
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert!(soft >= WANTED.min(hard), "{soft} of {hard}");
    }
}
