//! Joins the rooms: the proxy, the programs that it follows and those that it starts, and the commands that reach it.

mod containers;
mod doors;
mod follow;
mod identity;
mod instance;
mod proxy;
mod report;
mod runs;
mod services;

pub use doors::DoorError;
pub use instance::{Happening, Instance, Purpose, Setting};
pub use proxy::{Proxy, StartError, TableError};
