//! Which sockets listen inside of a container.
//!
//! An engine's helper takes connections for a published port from the moment in which the container starts, and drops
//! them until its program listens. Linux shows the sockets of another network through any process that is in it; where
//! that cannot be seen, as in the virtual machine of Docker Desktop, nobody is kept from trying.

use std::net::SocketAddr;

use super::{Container, State};

/// The sockets that listen in the container's network, which on Linux this user may read.
#[cfg(target_os = "linux")]
pub(super) fn listeners(container: &Container) -> Option<Vec<SocketAddr>> {
    let State::Running { pid: Some(pid), .. } = container.state else { return None };
    let listeners = super::super::proc::listeners_near(pid).ok()?;
    // It may have ended meanwhile, and its number may be another's.
    is_in(pid, &container.id).then_some(listeners)
}

/// Other systems run their containers in a virtual machine.
#[cfg(not(target_os = "linux"))]
pub(super) fn listeners(_: &Container) -> Option<Vec<SocketAddr>> {
    None
}

/// Whether a process of this machine is in the container: engines name its control group after its id.
#[cfg(target_os = "linux")]
pub(super) fn is_in(pid: u32, id: &str) -> bool {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup"));
    !id.is_empty() && groups.is_ok_and(|groups| groups.contains(id))
}

/// Other systems run their containers in a virtual machine.
#[cfg(not(target_os = "linux"))]
pub(super) fn is_in(_: u32, _: &str) -> bool {
    false
}
