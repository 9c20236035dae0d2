//! The target that an upstream sees, made from the bytes that the client sent.

use crate::config::PathRewrite;

/// The new path, with the query as it was.
pub(super) fn target(rewrite: &PathRewrite, path: &str, query: Option<&str>, prefix: usize) -> String {
    let mut target = match rewrite {
        PathRewrite::Full(full) => full.clone(),
        PathRewrite::Prefix(replacement) => replace_prefix(path, prefix, replacement),
    };
    if let Some(query) = query {
        target.push('?');
        target.push_str(query);
    }
    target
}

/// `ReplacePrefixMatch` of the Gateway API: one `/` at the seam, never two and never none.
fn replace_prefix(path: &str, prefix: usize, replacement: &str) -> String {
    let rest = path.get(prefix..).unwrap_or_default();
    let seam = match (replacement.ends_with('/'), rest.strip_prefix('/')) {
        (true, Some(rest)) => rest,
        _ => rest,
    };
    format!("{replacement}{seam}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_prefix_leaves_one_slash_at_the_seam() {
        // The table of the Gateway API's HTTPPathModifier.
        for (path, prefix, replacement, expected) in [
            ("/foo/bar", 4, "/xyz", "/xyz/bar"),
            ("/foo/bar", 4, "/xyz/", "/xyz/bar"),
            ("/foo", 4, "/xyz", "/xyz"),
            ("/foo/", 4, "/xyz", "/xyz/"),
            ("/foo", 4, "/xyz/", "/xyz/"),
            ("/foo/bar", 4, "/", "/bar"),
            ("/foo/", 4, "/", "/"),
            ("/foo", 4, "/", "/"),
            ("/bar", 0, "/xyz", "/xyz/bar"),
        ] {
            assert_eq!(replace_prefix(path, prefix, replacement), expected, "{path} {replacement}");
        }
    }

    #[test]
    fn what_is_not_replaced_keeps_its_bytes() {
        let strip = PathRewrite::Prefix("/".into());
        assert_eq!(target(&strip, "/api//a%2Fb;c", Some(""), 4), "//a%2Fb;c?");
        assert_eq!(target(&PathRewrite::Full("/one".into()), "/a", Some("x=%20&y"), 0), "/one?x=%20&y");
    }
}
