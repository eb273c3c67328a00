//! What Tab completes: commands, their options, and paths of znodes.
//!
//! This part is pure: it says what is being typed and which candidates fit. The names of children come from a server,
//! which is asked elsewhere.

use super::table;
use super::words;

/// What the word at the cursor is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Typed {
    /// The byte of the line where the word begins, its quote included.
    pub start: usize,
    /// What could stand there.
    pub wanted: Wanted,
}

/// What could stand at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The name of a command that begins so.
    Command(String),
    /// An option of a command.
    Option {
        /// The command.
        command: String,
        /// What is there, dash included.
        prefix: String,
    },
    /// A child of a znode.
    Path {
        /// The znode.
        parent: String,
        /// What is there of the child's name.
        prefix: String,
        /// The quote that the word stands in.
        quote: Option<char>,
    },
    /// A word with a fixed set of values.
    Word(String, &'static [&'static str]),
    /// Something that only the user can know.
    Nothing,
}

/// Looks at a line up to the cursor.
pub fn typed(line: &str) -> Typed {
    let before = words::words(line);
    let (start, text, quote) = current(line, &before);
    let done: Vec<&str> = before.iter().filter(|word| word.start < start).map(|word| &*word.text).collect();
    let wanted = match (done.first(), &*text) {
        (None, text) => Wanted::Command(text.into()),
        (Some(&"help"), text) => Wanted::Command(text.into()),
        (Some(&"printwatches"), text) => Wanted::Word(text.into(), &["off", "on"]),
        (Some(&"addauth"), text) if done.len() == 1 => Wanted::Word(text.into(), &["digest"]),
        (Some(&"addWatch"), text) if done.last() == Some(&"-m") => {
            Wanted::Word(text.into(), &["PERSISTENT", "PERSISTENT_RECURSIVE"])
        }
        (Some(_), text) if text.starts_with('/') => {
            let (parent, prefix) = text.rsplit_once('/').expect("it begins with one");
            let parent = if parent.is_empty() { "/" } else { parent };
            Wanted::Path { parent: parent.into(), prefix: prefix.into(), quote }
        }
        (Some(command), text) if text.starts_with('-') => {
            Wanted::Option { command: (*command).into(), prefix: text.into() }
        }
        _ => Wanted::Nothing,
    };
    Typed { start, wanted }
}

/// The word that is being typed: the last one, if nothing stands behind it, or an empty one.
fn current(line: &str, before: &[words::Word]) -> (usize, String, Option<char>) {
    let behind = before.last().map_or(0, |word| word.end);
    // A quote that is open: words does not count it as one.
    if let Some(open) = line.rfind(['"', '\'']).filter(|open| opens(line, *open)) {
        return (open, line[open + 1..].to_string(), line[open..].chars().next());
    }
    match before.last() {
        Some(word) if behind == line.len() && word.quote.is_none() => (word.start, word.text.clone(), None),
        _ => (line.len(), String::new(), None),
    }
}

/// Does a quote at this place open a word that is not closed?
fn opens(line: &str, place: usize) -> bool {
    let quote = &line[place..=place];
    let starts_word = line[..place].ends_with([' ', '\t']) || place == 0;
    starts_word
        && !words::words(line)
            .iter()
            .any(|word| word.quote.is_some() && (word.start..word.end).contains(&place))
        && !line[place + 1..].contains(quote)
}

/// The candidates for what is wanted, given the children of the znode if it is a path; sorted.
pub fn candidates(wanted: &Wanted, children: &[String]) -> Vec<String> {
    let mut found: Vec<String> = match wanted {
        Wanted::Command(prefix) => table::COMMANDS
            .iter()
            .filter(|spec| (!spec.hidden || spec.name == "help") && spec.name.starts_with(prefix.as_str()))
            .map(|spec| spec.name.to_string())
            .collect(),
        Wanted::Option { command, prefix } => {
            let options = table::find(command).map_or(&[][..], |spec| spec.options);
            let dashed = |name: &str, long: bool| format!("{}{name}", if long { "--" } else { "-" });
            options
                .iter()
                .map(|option| dashed(option.name, option.long))
                .filter(|option| option.starts_with(prefix.as_str()))
                .collect()
        }
        Wanted::Path { parent, prefix, quote } => children
            .iter()
            .filter(|name| name.starts_with(prefix.as_str()))
            .map(|name| quoted(&format!("{}/{name}", parent.trim_end_matches('/')), *quote))
            .collect(),
        Wanted::Word(prefix, values) => values
            .iter()
            .filter(|value| value.starts_with(prefix.as_str()))
            .map(|value| (*value).into())
            .collect(),
        Wanted::Nothing => Vec::new(),
    };
    found.sort_unstable();
    found
}

/// A path as one word: in quotes, if it needs them or has them.
fn quoted(path: &str, quote: Option<char>) -> String {
    let needs = path.contains([' ', '\t']).then_some(if path.contains('"') { '\'' } else { '"' });
    match quote.or(needs) {
        None => path.to_string(),
        Some(quote) => format!("{quote}{path}{quote}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(line: &str, children: &[&str]) -> (usize, Vec<String>) {
        let typed = typed(line);
        let children: Vec<String> = children.iter().map(|name| (*name).to_string()).collect();
        (typed.start, candidates(&typed.wanted, &children))
    }

    fn path(parent: &str, prefix: &str, quote: Option<char>) -> Wanted {
        Wanted::Path { parent: parent.into(), prefix: prefix.into(), quote }
    }

    #[test]
    fn commands_come_first() {
        assert_eq!(complete("dele", &[]), (0, vec!["delete".into(), "deleteall".into()]));
        assert_eq!(complete("  getA", &[]), (2, vec!["getAcl".into(), "getAllChildrenNumber".into()]));
        assert_eq!(complete("", &[]).1.len(), 29);
        assert_eq!(complete("ls2", &[]).1, Vec::<String>::new(), "old names are not advertised");
        assert_eq!(complete("help set", &[]).1, ["set", "setAcl", "setquota"]);
    }

    #[test]
    fn paths_complete_with_the_children_of_their_parent() {
        assert_eq!(typed("ls /").wanted, path("/", "", None));
        assert_eq!(typed("get -s /a/b").wanted, path("/a", "b", None));
        assert_eq!(typed("create /a/b/").wanted, path("/a/b", "", None));
        assert_eq!(complete("ls /", &["zookeeper", "app"]), (3, vec!["/app".into(), "/zookeeper".into()]));
        assert_eq!(
            complete("get -s /app/b", &["bar", "baz", "c"]),
            (7, vec!["/app/bar".into(), "/app/baz".into()])
        );
    }

    #[test]
    fn names_with_blanks_are_quoted() {
        assert_eq!(complete("ls /a", &["a b"]), (3, vec!["\"/a b\"".into()]));
        assert_eq!(complete("ls \"/a b", &["a b", "a bc"]), (3, vec!["\"/a b\"".into(), "\"/a bc\"".into()]));
        assert_eq!(complete("ls '/a", &["a"]), (3, vec!["'/a'".into()]));
        assert_eq!(typed("set /a 'x y' ").wanted, Wanted::Nothing);
        assert_eq!(typed("set /it's /b").wanted, path("/", "b", None));
    }

    #[test]
    fn options_and_fixed_words() {
        assert_eq!(complete("ls -", &[]).1, ["-?", "-R", "-s", "-w"]);
        assert_eq!(complete("set --", &[]), (4, vec!["--file".into()]));
        assert_eq!(complete("fly -", &[]).1, Vec::<String>::new());
        assert_eq!(complete("printwatches o", &[]).1, ["off", "on"]);
        assert_eq!(complete("addWatch -m P", &[]).1, ["PERSISTENT", "PERSISTENT_RECURSIVE"]);
        assert_eq!(complete("set /a some", &[]).1, Vec::<String>::new());
    }
}
