//! What a route changes on the way. Pure: filters decide and return data, `forward` applies it.
//!
//! Field edits are data already (`config::FieldEdits`); what needs thought is here: the new target, and the
//! answers to questions that browsers ask on behalf of other origins.

mod cors;
mod rewrite;

use crate::{
    config::{FieldEdits, Filters, NO_EDITS},
    head::RequestHead,
    respond::Answer,
};

/// What to do with a request.
#[derive(Debug)]
pub enum Verdict<'r> {
    /// Go on, with these changes.
    Continue(RequestEdits<'r>),
    /// Ask nobody: this is the answer.
    Answer(Answer),
}

/// Changes of what goes to the upstream.
#[derive(Debug, PartialEq, Eq)]
pub struct RequestEdits<'r> {
    /// The path and query in the place of the client's.
    pub target: Option<String>,
    /// The authority in the place of the client's.
    pub authority: Option<&'r str>,
    /// The fields.
    pub fields: &'r FieldEdits,
}

/// Changes of what goes to the client.
#[derive(Debug, PartialEq, Eq)]
pub struct ResponseEdits<'r> {
    /// Applied first: what cross-origin sharing says, in the place of whatever the upstream says of it.
    pub cors: Option<FieldEdits>,
    /// The route's own.
    pub fields: &'r FieldEdits,
}

/// What the filters of a route make of a request; `prefix` bytes of its path were matched by a prefix.
pub fn on_request<'r>(filters: &'r Filters, head: &RequestHead<'_>, prefix: usize) -> Verdict<'r> {
    if let Some(cors) = &filters.cors
        && let Some(answer) = cors::preflight(cors, head)
    {
        return Verdict::Answer(answer);
    }
    let rewrite = filters.rewrite.as_ref();
    let path = rewrite.and_then(|rewrite| rewrite.path.as_ref());
    Verdict::Continue(RequestEdits {
        target: path.map(|path| rewrite::target(path, head.path, head.query, prefix)),
        authority: rewrite.and_then(|rewrite| rewrite.host.as_deref()),
        fields: &filters.request_headers,
    })
}

/// What the filters of a route make of the answer to `head`.
pub fn on_response<'r>(filters: &'r Filters, head: &RequestHead<'_>) -> ResponseEdits<'r> {
    ResponseEdits {
        cors: filters.cors.as_ref().map(|cors| cors::sharing(cors, head)),
        fields: &filters.response_headers,
    }
}

impl ResponseEdits<'_> {
    /// Those of an answer that no route gave.
    pub const NONE: ResponseEdits<'static> = ResponseEdits { cors: None, fields: &NO_EDITS };
}
