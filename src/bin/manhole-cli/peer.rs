//! Who listens at the other end, checked before a byte is sent.
//!
//! Context: the client. `/tmp` is everybody's: whoever is first may bind `/tmp/manhole-42`. The kernel
//! vouches for the pid and uid of the process that called `listen` (`SO_PEERCRED`, man 7 unix); what a
//! person types, and what his terminal shows, must come from the process he named.

use std::os::unix::net::UnixStream;

use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::geteuid;

use crate::process::Status;

/// What the user's words promise about the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// It is this process, by our own counting.
    Process(u32),
    /// The path names this pid, which may be counted in the server's own pid namespace.
    Named(u32),
    /// Nothing: then it must belong to us or to root.
    Own,
}

/// Who listened, as the kernel says.
#[derive(Clone, Copy, Debug)]
pub struct Credentials {
    /// In our pid namespace; 0 when the process is not in it.
    pub pid: u32,
    /// In our user namespace.
    pub uid: u32,
}

/// The listener's credentials when they fit, otherwise why not.
pub fn check(stream: &UnixStream, expected: Expected) -> Result<Credentials, String> {
    let peer =
        getsockopt(stream, sockopt::PeerCredentials).map_err(|errno| format!("SO_PEERCRED: {}", errno.desc()))?;
    let peer = Credentials { pid: u32::try_from(peer.pid()).unwrap_or(0), uid: peer.uid() };
    let status = Status::read(peer.pid);
    verdict(peer, status.as_ref(), expected, geteuid().as_raw()).map(|()| peer)
}

/// The rules alone. `status` is that of process `peer.pid`.
fn verdict(peer: Credentials, status: Option<&Status>, expected: Expected, own_uid: u32) -> Result<(), String> {
    let Credentials { pid, uid } = peer;
    if pid == 0 {
        return Err("its server is in a pid namespace that cannot be seen from here, so nothing proves who it is: \
                    run manhole-cli outside of the container, or inside of the same one"
            .to_owned());
    }
    let Some(status) = status else { return Err(format!("process {pid} listened there, and has ended")) };
    let ours = uid == own_uid || uid == 0;
    match expected {
        Expected::Process(wanted) | Expected::Named(wanted) if pid == wanted => {
            // Root may have listened and then become somebody else.
            if uid != 0 && uid != status.effective_uid {
                return Err(format!(
                    "its server had uid {uid} when it began to listen, and process {pid} now has {}",
                    status.effective_uid
                ));
            }
            Ok(())
        }
        // Another namespace's numbers can be chosen at will, so here they prove nothing by themselves.
        Expected::Named(named) if status.own_pid() == Some(named) && ours => Ok(()),
        Expected::Process(wanted) | Expected::Named(wanted) => {
            Err(format!("its server is not process {wanted} but process {pid} of uid {uid}"))
        }
        Expected::Own if ours => Ok(()),
        Expected::Own => Err(format!(
            "its server is process {pid} of uid {uid}, neither root nor you: if that is the one you mean, say manhole-cli {pid}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(effective_uid: u32, namespace_pids: &[u32]) -> Status {
        let namespace_pids = namespace_pids.to_vec();
        Status { state: 'S', tracer: 0, effective_uid, namespace_pids, caught: 0, ignored: 0, blocked: 0, pending: 0 }
    }

    fn allows(pid: u32, uid: u32, status: &Status, expected: Expected) -> bool {
        verdict(Credentials { pid, uid }, Some(status), expected, 1000).is_ok()
    }

    #[test]
    fn the_process_asked_for_may_have_dropped_root_but_not_changed_otherwise() {
        for expected in [Expected::Process(42), Expected::Named(42)] {
            assert!(allows(42, 33, &status(33, &[42]), expected));
            assert!(allows(42, 0, &status(33, &[42]), expected));
            assert!(!allows(42, 34, &status(33, &[42]), expected));
            assert!(!allows(43, 33, &status(33, &[43]), expected));
            assert!(!allows(43, 0, &status(0, &[43]), expected));
        }
    }

    #[test]
    fn a_path_may_count_in_the_servers_namespace_when_the_server_is_ours() {
        assert!(allows(4242, 1000, &status(1000, &[4242, 7]), Expected::Named(7)));
        assert!(allows(4242, 0, &status(0, &[4242, 7]), Expected::Named(7)));
        assert!(!allows(4242, 1001, &status(1001, &[4242, 7]), Expected::Named(7)));
        assert!(!allows(4242, 1000, &status(1000, &[4242, 8]), Expected::Named(7)));
        assert!(!allows(4242, 1000, &status(1000, &[4242, 7]), Expected::Process(7)));
    }

    #[test]
    fn a_nameless_path_must_be_ours_or_roots() {
        assert!(allows(42, 1000, &status(1000, &[42]), Expected::Own));
        assert!(allows(42, 0, &status(0, &[42]), Expected::Own));
        assert!(!allows(42, 1001, &status(1001, &[42]), Expected::Own));
    }

    #[test]
    fn who_cannot_be_seen_is_not_trusted() {
        let hidden = verdict(Credentials { pid: 0, uid: 0 }, None, Expected::Own, 0);
        assert!(hidden.is_err_and(|reason| reason.contains("pid namespace")));
        let gone = verdict(Credentials { pid: 42, uid: 0 }, None, Expected::Process(42), 0);
        assert!(gone.is_err_and(|reason| reason.contains("has ended")));
    }
}
