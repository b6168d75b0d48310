//! The protocol by which a service reports its state to systemd (`Type=notify`, sd_notify(3)): datagrams to the socket
//! that the environment names.

use std::{
    env,
    ffi::{OsStr, OsString},
    io,
    os::unix::{
        ffi::OsStrExt,
        net::{SocketAddr, UnixDatagram},
    },
    time::Duration,
};

/// The variable that systemd sets for services of `Type=notify`: a path, or the name of an abstract socket after an `@`.
const VARIABLE: &str = "NOTIFY_SOCKET";

/// Maximum time that systemd may take to make room for a datagram.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// Time beyond `drain_seconds` in which the server ends: it closes the database and the log.
const END_TIME: Duration = Duration::from_secs(10);

/// Reports that the service is ready, with a line for `systemctl status`. Does nothing if systemd did not start it.
pub(super) fn ready(status: &str) {
    send(&format!("READY=1\nSTATUS={status}"));
}

/// Reports that the service shuts down, and that this may take as long as its calls may take. Without this, systemd
/// would kill a server whose `drain_seconds` are more than the timeout of its unit.
pub(super) fn stopping(drain: Duration) {
    let bound = drain.saturating_add(END_TIME).as_micros();
    send(&format!("STOPPING=1\nSTATUS=shutting down\nEXTEND_TIMEOUT_USEC={bound}"));
}

/// Sends a state. The service works without systemd, so a failure is only logged.
fn send(state: &str) {
    let Some(name) = env::var_os(VARIABLE).filter(|name| !name.is_empty()) else { return };
    if let Err(error) = send_to(&name, state) {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            socket = %name.display(),
            "cannot report to systemd, at the socket that NOTIFY_SOCKET names"
        );
    }
}

fn send_to(name: &OsString, state: &str) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(SEND_TIMEOUT))?;
    socket.send_to_addr(state.as_bytes(), &address(name)?)?;
    Ok(())
}

fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes().split_first() {
        Some((b'@', name)) => abstract_address(name),
        Some((b'/', _)) => SocketAddr::from_pathname(name),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the name of the socket must begin with / or with @",
        )),
    }
}

#[cfg(target_os = "linux")]
fn abstract_address(name: &[u8]) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt;
    SocketAddr::from_abstract_name(name)
}

#[cfg(not(target_os = "linux"))]
fn abstract_address(_: &[u8]) -> io::Result<SocketAddr> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "only Linux has abstract sockets"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_path_and_without_an_at_sign_is_refused() {
        for (name, want) in [("/run/systemd/notify", true), ("@notify", true), ("notify", false), ("", false)]
        {
            assert_eq!(address(OsStr::new(name)).is_ok(), want, "{name:?}");
        }
    }
}
