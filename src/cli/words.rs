//! A line becomes words, as in zkCli: blanks separate, `"..."` and `'...'` hold together, nothing is escaped.
//!
//! Apache's rule is a regular expression, `\s*([^"']\S*|"[^"]*"|'[^']*')\s*`, applied again and again. So a quote counts
//! at the beginning of a word only (`it's` is one word), the end of a quoted word is the end of the word, and a quote
//! that is not closed is skipped. All of that is kept; the corner where a blank before an open quote becomes part of
//! the word is not.

/// What separates words: the blanks of Java's regular expressions.
fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\u{b}' | '\u{c}' | '\r')
}

/// A word and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// Without its quotes.
    pub text: String,
    /// The byte where it begins, its quote included.
    pub start: usize,
    /// The byte behind it and its quote.
    pub end: usize,
    /// The quote it stands in, if any.
    pub quote: Option<char>,
}

/// The words of a line.
pub fn words(line: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut at = 0;
    while let Some(found) = line[at..].find(|c| !is_blank(c)) {
        let start = at + found;
        let rest = &line[start..];
        let first = rest.chars().next().expect("found above");
        let quote = (first == '"' || first == '\'').then_some(first);
        let word = match quote {
            None => {
                let end = start + rest.find(is_blank).unwrap_or(rest.len());
                Word { text: line[start..end].to_string(), start, end, quote }
            }
            Some(quote) => match rest[1..].find(quote) {
                Some(length) => {
                    let text = rest[1..=length].to_string();
                    Word { text, start, end: start + length + 2, quote: Some(quote) }
                }
                // An open quote.
                None => {
                    at = start + 1;
                    continue;
                }
            },
        };
        at = word.end;
        words.push(word);
    }
    words
}

/// The words of a line, without their places.
pub fn split(line: &str) -> Vec<String> {
    words(line).into_iter().map(|word| word.text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_separate_and_quotes_hold_together() {
        for (line, expected) in [
            ("", &[][..]),
            ("   ", &[]),
            ("ls /", &["ls", "/"]),
            ("  ls \t /  ", &["ls", "/"]),
            (r#"create /a "hello world""#, &["create", "/a", "hello world"]),
            ("create /a 'say \"hi\"'", &["create", "/a", "say \"hi\""]),
            (r#"create /a """#, &["create", "/a", ""]),
            ("create '/a b'/c", &["create", "/a b", "/c"]),
            (r#"set /a it's"#, &["set", "/a", "it's"]),
            (r#"set /a {"k":"v w"}"#, &["set", "/a", r#"{"k":"v"#, r#"w"}"#]),
            (r#"set /a "open end"#, &["set", "/a", "open", "end"]),
            (r#"""#, &[]),
            (r#"set /a a\ b"#, &["set", "/a", "a\\", "b"]),
            ("get /ä 'ö ü'", &["get", "/ä", "ö ü"]),
        ] {
            assert_eq!(split(line), expected, "{line}");
        }
    }

    #[test]
    fn places_include_the_quotes() {
        let line = "get  '/a b' x";
        let places: Vec<_> = words(line).iter().map(|word| &line[word.start..word.end]).collect();
        assert_eq!(places, ["get", "'/a b'", "x"]);
    }
}
