//! One stable localhost address in front of everything that runs on a developer's machine.

pub mod config;
pub mod diagnostic;
pub mod discover;
pub mod drain;
pub mod head;
pub mod respond;
pub mod table;
