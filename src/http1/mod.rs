//! RFC 9112 in code: HTTP/1.1 and 1.0, as bytes come in and as bytes go out.
//!
//! [`head`] reads heads, checks them strictly, and knows the fields that HTTP/1 itself needs; [`mod@write`] writes them
//! field by field, so that no byte goes out that was not understood. [`body`] tells where a message ends: its framing is
//! a type, and its decoder passes on what is canonical as it lies. [`leg`] is a connection with what was read from it
//! ahead of its turn. On it stand the two sides of an exchange: [`server`] towards a client, [`client`] towards a
//! program, each with the states of its connection as types. [`transfer`] carries a body from one leg to the other.
//!
//! Nothing here knows a route, a table or a timer, and nothing waits but for bytes: every step is a poll, so one task
//! can drive both legs. A connection that waits holds no buffer: what is read goes through [`scratch`], which all
//! connections of a thread share, and only what could not be used yet is kept.

pub mod body;
mod chunked;
pub mod client;
pub mod head;
pub mod leg;
pub mod rewound;
pub mod scratch;
pub mod server;
pub mod transfer;
pub mod write;
