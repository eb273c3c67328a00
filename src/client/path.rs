//! Paths, judged before they are sent: a server only says BadArguments, and for some operations not even that.
//!
//! The rules and their words are those of Apache's client. Places (`@7`) count UTF-16 units, as there.

/// What is wrong with this path, or nothing.
pub fn validate(path: &str) -> Result<(), String> {
    if path.is_empty() {
        return Err("Path length must be > 0".into());
    }
    if !path.starts_with('/') {
        return Err("Path must start with / character".into());
    }
    if path.len() == 1 {
        return Ok(());
    }
    if path.ends_with('/') {
        return Err("Path must not end with / character".into());
    }
    match flaw(path) {
        None => Ok(()),
        Some((place, flaw)) => Err(format!("Invalid path string \"{path}\" caused by {flaw} @{place}")),
    }
}

/// The first flaw of a path that begins with a slash, and where it is.
fn flaw(path: &str) -> Option<(usize, &'static str)> {
    // Where the current name begins; a name's flaw is known at its end, one of a character at once.
    let (mut place, mut name) = (0, 0);
    for (at, c) in path.char_indices() {
        match c {
            '/' if at > 0 => {
                if let Some(flaw) = name_flaw(&path[name..at]) {
                    return Some((if flaw == EMPTY_NAME { place } else { place - 1 }, flaw));
                }
                name = at + 1;
            }
            '/' => name = 1,
            '\0' => return Some((place, "null character not allowed")),
            c if is_forbidden(c) => return Some((place, "invalid character")),
            _ => {}
        }
        place += c.len_utf16();
    }
    name_flaw(&path[name..]).map(|flaw| (place - 1, flaw))
}

const EMPTY_NAME: &str = "empty node name specified";

fn name_flaw(name: &str) -> Option<&'static str> {
    match name {
        "" => Some(EMPTY_NAME),
        "." | ".." => Some("relative paths not allowed"),
        _ => None,
    }
}

/// Control characters, what UTF-16 needs two units for, the private use area and the specials.
fn is_forbidden(c: char) -> bool {
    matches!(c, '\u{1}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_paths() {
        for path in
            ["/", "/a", "/a/b", "/a b", "/...", "/a..", "/.a", "/..a/b", "/ä/日本", "/\u{feff}x", "/a:b\"c"]
        {
            assert_eq!(validate(path), Ok(()), "{path}");
        }
    }

    /// Places and words as Apache's client gives them.
    #[test]
    fn flaws_are_named_with_their_place() {
        let long = |flaw: &str, path: &str| format!("Invalid path string \"{path}\" caused by {flaw}");
        for (path, place) in [("/a//b", 3), ("//a", 1), ("/äö//b", 4)] {
            assert_eq!(validate(path), Err(long(&format!("empty node name specified @{place}"), path)));
        }
        for (path, place) in [("/.", 1), ("/..", 2), ("/a/.", 3), ("/a/../b", 4), ("/./b", 1), ("/../b", 2)] {
            assert_eq!(validate(path), Err(long(&format!("relative paths not allowed @{place}"), path)));
        }
        for (path, place) in
            [("/a\u{7f}", 2), ("/\u{1}", 1), ("/a😀b", 2), ("/\u{e000}", 1), ("/a/\u{fffe}", 3)]
        {
            assert_eq!(validate(path), Err(long(&format!("invalid character @{place}"), path)));
        }
        assert_eq!(validate("/a\0"), Err(long("null character not allowed @2", "/a\0")));
        assert_eq!(validate(""), Err("Path length must be > 0".into()));
        assert_eq!(validate("a"), Err("Path must start with / character".into()));
        assert_eq!(validate("/a/"), Err("Path must not end with / character".into()));
    }
}
