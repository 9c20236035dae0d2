//! portolan: one stable localhost address, `127.0.0.1:62893`, in front of everything that runs on this machine.
//!
//! # Life of a request
//!
//! [`listen::accept`] takes the socket → [`listen::conn`] has [`http1::server`] read a request from it, under the time
//! limits of [`listen::deadlines`] → [`forward::Worker::handle`] answers, whatever happens: it checks the [`head`], loads the
//! [`live`] snapshot, asks `table.find(head)` for the route, and the route's [`filter`]s for a verdict → either
//! [`respond`] answers here, or `upstream.pick` names an endpoint, [`upstream::pool`] has a connection to it, and
//! [`forward::head`] writes the outgoing head → [`http1::client::Exchange`] carries both bodies, and the answer passes the
//! response filters → it ends, and with it the [`observe::Exchange`].
//!
//! An upgraded connection leaves this path after its 101 and becomes a [`tunnel`].
//!
//! # Life of a table
//!
//! [`config::load`] finds and reads the file → `document` keeps every value with its place → `check` makes a
//! [`config::Config`] or tells every problem as a [`diagnostic`] → [`table::Table::compile`] arranges it for look-up →
//! [`live::Live::swap`] puts it in force for the next request. [`watch`] begins this anew when the file changes.
//!
//! # Life of a program
//!
//! [`supervise`] starts it by way of a keeper → [`discover`] sees that it listens, wherever that is → [`app`] tells the
//! endpoint's [`upstream::place`], which wakes the requests that wait for it. Commands ask through [`control`].
//!
//! # Rows
//!
//! A module imports strictly lower rows only; `tests/architecture.rs` keeps it so.
//!
//! | row | modules |
//! |---|---|
//! | 8 | [`cli`], `main` |
//! | 7 | [`app`], [`demo`] |
//! | 6 | [`control`], [`doctor`] |
//! | 5 | [`forward`] |
//! | 4 | [`live`] |
//! | 3 | [`table`] |
//! | 2 | [`filter`], [`upstream`], [`listen`], [`discover`], [`supervise`], [`watch`] |
//! | 1 | [`config`], [`respond`], [`observe`], [`process`], [`http2`], [`tls`] |
//! | 0 | [`diagnostic`], [`drain`], [`head`], [`http1`], [`tunnel`] |
//!
//! # Words
//!
//! A *listener* is a socket that accepts. A *route* is an entry of the table; a *rule* is one host of a route. An *upstream*
//! is all that stands behind a route, an *endpoint* is one place of it. An *answer* is what we say ourselves, a *response*
//! what a program says. An *exchange* is a request and what became of it. A *snapshot* is the table in force.

pub mod app;
pub mod cli;
pub mod config;
pub mod control;
pub mod demo;
pub mod diagnostic;
pub mod discover;
pub mod doctor;
pub mod drain;
pub mod filter;
pub mod forward;
pub mod head;
pub mod http1;
pub mod http2;
pub mod listen;
pub mod live;
pub mod observe;
pub mod process;
pub mod respond;
pub mod supervise;
pub mod table;
pub mod tls;
pub mod tunnel;
pub mod upstream;
pub mod watch;
