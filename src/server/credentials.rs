//! Who may come in: the application's effective user, or root.
//!
//! Context: the observer. The kernel recorded the peer's credentials at its `connect`; the effective
//! user is the one of this moment, since glibc's `setuid` reaches our thread too.

#![forbid(unsafe_code)]

use crate::log;
use crate::sys::process;
use crate::sys::socket::{Peer, Socket};

/// The peer, if it may come in; otherwise the reason, which is also logged.
pub fn check(socket: &Socket) -> Result<Peer, String> {
    let peer = socket.peer().map_err(|error| {
        log!("refused a client whose credentials cannot be read: {}", error.desc());
        format!("your credentials cannot be read: {}", error.desc())
    })?;
    let own = process::effective_uid();
    if peer.uid == 0 || peer.uid == own {
        return Ok(peer);
    }
    log!("refused a client: pid={} uid={} gid={}, only root and uid {own} may connect", peer.pid, peer.uid, peer.gid);
    Err(format!("only root and uid {own} may connect, you are uid {}", peer.uid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::UnixAddr;

    #[test]
    fn the_same_user_may_come_in() {
        let listener = Socket::new().unwrap();
        let address = UnixAddr::new_unnamed();
        nix::sys::socket::bind(listener.raw(), &address).unwrap();
        listener.listen().unwrap();
        let bound: UnixAddr = nix::sys::socket::getsockname(listener.raw()).unwrap();
        let client = Socket::new().unwrap();
        client.connect(&bound).unwrap();
        let (server, _) = listener.accept().unwrap();
        assert_eq!(check(&server).unwrap().pid, process::pid());
    }
}
