//! The kernel's word that an address of this host has come or gone (rtnetlink(7)). What it says is not read: whoever
//! is told looks for himself.

use nix::libc;
use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, socket,
};
use std::io;
use std::os::fd::AsRawFd as _;
use tokio::net::UdpSocket;

/// A subscription. A netlink socket carries datagrams, and is read as any socket that does.
#[derive(Debug)]
pub(super) struct Changes(UdpSocket);

impl Changes {
    /// Fails where a sandbox forbids netlink.
    pub(super) fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Datagram,
            flags,
            SockProtocol::NetlinkRoute,
        )?;
        let groups = libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups as u32))?;
        Ok(Self(UdpSocket::from_std(socket.into())?))
    }

    /// Returns when something has changed since the last call.
    async fn next(&self) -> io::Result<()> {
        self.0.readable().await?;
        let mut buffer = [0; 4096];
        loop {
            match self.0.try_recv(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                // Too many at once for its buffer: that is a change too.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Waits for a change; for ever without a subscription, which a failure ends.
pub(super) async fn changed(changes: &mut io::Result<Changes>) {
    if let Ok(open) = changes {
        match open.next().await {
            Ok(()) => return,
            Err(error) => {
                tracing::debug!(%error, "netlink ended: addresses are looked at every 30 s");
                *changes = Err(error);
            }
        }
    }
    std::future::pending::<()>().await;
}
