//! The rules for paths.
//!
//! Which rule applies depends on the request. Reads take any string: what names no znode is NoNode, and the
//! empty string is a second name of the root. Writes want a proper path, but a create looks for the parent
//! before it judges the last name, since a sequence number may still be added to it.
//!
//! Apache judges a path as Java sees it, in UTF-16 units. All surrogates are among the forbidden units, so
//! every character above U+FFFF is refused.

use crate::types::ZkError;

/// The root. Lookups take the empty string for it, too; events and replies say `/`.
pub const ROOT: &str = "/";
/// Below it the ensemble keeps what it knows about itself.
pub const ZOOKEEPER: &str = "/zookeeper";
/// Limits and usage of subtrees.
pub const QUOTA: &str = "/zookeeper/quota";
/// The members of the ensemble.
pub const CONFIG: &str = "/zookeeper/config";

/// Is it one of the znodes that every tree has and nobody may delete?
pub fn is_special(path: &str) -> bool {
    matches!(path, "" | ROOT | ZOOKEEPER | QUOTA | CONFIG)
}

/// The parent's path and the last name: `/a` for `/a/b`, and `/` for `/a`. `None` without any slash.
///
/// Nothing else is checked: the name is empty for `/` and `/a/`.
pub fn split(path: &str) -> Option<(&str, &str)> {
    let slash = path.rfind('/')?;
    let parent = if slash == 0 { ROOT } else { &path[..slash] };
    Some((parent, &path[slash + 1..]))
}

/// The rule for what setData, setACL and check name, and for the final name of a create.
pub fn validate(path: &str) -> Result<(), ZkError> {
    if path == ROOT {
        return Ok(());
    }
    let names = path.strip_prefix('/').ok_or(ZkError::BadArguments)?;
    let bad_name = names.split('/').any(|name| matches!(name, "" | "." | ".."));
    if bad_name || path.chars().any(is_forbidden) {
        return Err(ZkError::BadArguments);
    }
    Ok(())
}

/// The first rule for a create, before its parent is looked up: a slash somewhere, and no NUL.
pub fn validate_create_prefix(path: &str) -> Result<(), ZkError> {
    if path.contains('/') && !path.contains('\0') { Ok(()) } else { Err(ZkError::BadArguments) }
}

/// The rule for a delete: as for a create, and none of the special znodes.
pub fn validate_delete(path: &str) -> Result<(), ZkError> {
    if is_special(path) { Err(ZkError::BadArguments) } else { validate_create_prefix(path) }
}

/// The rule for exists, the only read that has one: no NUL.
pub fn validate_exists(path: &str) -> Result<(), ZkError> {
    if path.contains('\0') { Err(ZkError::BadArguments) } else { Ok(()) }
}

/// Control characters, surrogates (half of each character above U+FFFF), private use, specials.
fn is_forbidden(c: char) -> bool {
    matches!(c, '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proper_paths_pass() {
        for path in
            ["/", "/a", "/a/b", "/...", "/a..", "/.a", "/a b", "/ü", "/\u{f900}", "/\u{feff}", "/\u{ffef}"]
        {
            assert_eq!(validate(path), Ok(()), "{path:?}");
        }
    }

    #[test]
    fn improper_paths_do_not() {
        let bad_names =
            ["", "a", "a/b", "/a/", "//", "//a", "/a//b", "/.", "/..", "/a/./b", "/a/../b", "/a/.."];
        let bad_units =
            ["/\0", "/\u{1}", "/a\u{1f}", "/\u{7f}", "/\u{9f}", "/\u{e000}", "/\u{f8ff}", "/\u{fff0}"];
        let outside_the_plane = ["/\u{fffd}", "/\u{ffff}", "/\u{10000}", "/😀", "/\u{10ffff}"];
        for path in bad_names.iter().chain(&bad_units).chain(&outside_the_plane) {
            assert_eq!(validate(path), Err(ZkError::BadArguments), "{path:?}");
        }
        assert_eq!(validate("/\u{7e}\u{a0}"), Ok(()), "the neighbours of a forbidden range are fine");
    }

    #[test]
    fn a_path_is_split_at_its_last_slash() {
        assert_eq!(split("/a/b"), Some(("/a", "b")));
        assert_eq!(split("/a"), Some(("/", "a")));
        assert_eq!(split("/a/"), Some(("/a", "")));
        assert_eq!(split("/"), Some(("/", "")));
        assert_eq!(split("a/b"), Some(("a", "b")));
        assert_eq!(split("a"), None);
        assert_eq!(split(""), None);
    }

    #[test]
    fn each_request_has_its_rule() {
        assert_eq!(validate_create_prefix("/q/"), Ok(()), "a sequence number may follow");
        assert_eq!(validate_create_prefix("a/b"), Ok(()), "its parent will be missing");
        assert_eq!(validate_create_prefix("a"), Err(ZkError::BadArguments));
        assert_eq!(validate_create_prefix("/a\0"), Err(ZkError::BadArguments));
        for special in ["", "/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config", "a", "/\0"] {
            assert_eq!(validate_delete(special), Err(ZkError::BadArguments), "{special:?}");
        }
        for odd in ["/a/", "//", "/..", "/zookeeper/quota/a"] {
            assert_eq!(validate_delete(odd), Ok(()), "{odd:?} is merely not there");
        }
        assert_eq!(validate_exists("a//"), Ok(()));
        assert_eq!(validate_exists("/\0"), Err(ZkError::BadArguments));
    }

    #[test]
    fn half_a_million_names_are_no_danger() {
        assert_eq!(validate(&"/a".repeat(500_000)), Ok(()));
    }
}
