//! Options of commands, as Apache's shell takes them: those of commons-cli's `DefaultParser`.
//!
//! Options may stand anywhere; single letters may stand together (`-sw`), and their value too (`-v3`, `-v=3`); `--`
//! ends them; a lone `-` is no option. A word that looks like a known option is no value of another, but a negative
//! number is.

/// An option that a command knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opt {
    /// Its name without dashes.
    pub name: &'static str,
    /// Two dashes stand before it: those are ours, Apache's have one however long the name is.
    pub long: bool,
    /// What its value is called, if it has one.
    pub value: Option<&'static str>,
    /// What it is for.
    pub about: &'static str,
}

/// An option of Apache's without a value.
pub const fn flag(name: &'static str, about: &'static str) -> Opt {
    Opt { name, long: false, value: None, about }
}

/// An option of Apache's with a value.
pub const fn valued(name: &'static str, value: &'static str, about: &'static str) -> Opt {
    Opt { name, long: false, value: Some(value), about }
}

/// The words of a command, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    options: Vec<(&'static str, Option<String>)>,
    /// The others, the command first.
    pub args: Vec<String>,
}

impl Parsed {
    /// Was this option given?
    pub fn has(&self, name: &str) -> bool {
        self.options.iter().any(|(known, _)| *known == name)
    }

    /// The value of an option; the first one if it was given several times.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.options.iter().find(|(known, _)| *known == name)?.1.as_deref()
    }
}

/// Sorts the words of a command, the command itself included.
pub fn parse(options: &'static [Opt], words: &[String]) -> Result<Parsed, String> {
    let mut parser = Parser { options, parsed: Parsed::default(), waiting: None };
    let mut words = words.iter();
    for word in words.by_ref() {
        if word == "--" {
            break;
        }
        parser.word(word)?;
    }
    parser.no_value_missing()?;
    parser.parsed.args.extend(words.cloned());
    Ok(parser.parsed)
}

struct Parser {
    options: &'static [Opt],
    parsed: Parsed,
    /// The option that waits for its value.
    waiting: Option<&'static str>,
}

impl Parser {
    fn word(&mut self, word: &str) -> Result<(), String> {
        if let Some(name) = self.waiting.filter(|_| !self.is_option(word) || is_negative_number(word)) {
            self.waiting = None;
            self.parsed.options.push((name, Some(word.to_string())));
            return Ok(());
        }
        match word.strip_prefix('-') {
            None | Some("") => self.parsed.args.push(word.to_string()),
            Some(long) if long.starts_with('-') => self.long(word)?,
            Some(short) => self.short(word, short)?,
        }
        Ok(())
    }

    /// One of ours: `--name`, `--name value` or `--name=value`.
    fn long(&mut self, word: &str) -> Result<(), String> {
        let name = &word[2..];
        let (name, value) = name.split_once('=').map_or((name, None), |(name, value)| (name, Some(value)));
        match self.options.iter().find(|option| option.long && option.name == name) {
            Some(option) if value.is_none() || option.value.is_some() => self.option(option, value),
            _ => Err(unrecognized(word)),
        }
    }

    /// One of Apache's, or several in one word.
    fn short(&mut self, word: &str, short: &str) -> Result<(), String> {
        if let Some(option) = self.find(short) {
            return self.option(option, None);
        }
        if let Some((name, value)) = short.split_once('=') {
            return match self.find(name) {
                Some(option) if option.value.is_some() && name.len() == 1 => self.option(option, Some(value)),
                _ => Err(unrecognized(word)),
            };
        }
        for (at, letter) in short.char_indices() {
            let option = self.find(letter.encode_utf8(&mut [0; 4])).ok_or_else(|| unrecognized(word))?;
            let trail = &short[at + letter.len_utf8()..];
            if option.value.is_some() && !trail.is_empty() {
                return self.option(option, Some(trail));
            }
            self.option(option, None)?;
        }
        Ok(())
    }

    fn option(&mut self, option: &Opt, value: Option<&str>) -> Result<(), String> {
        self.no_value_missing()?;
        match (option.value, value) {
            (Some(_), None) => self.waiting = Some(option.name),
            (_, value) => self.parsed.options.push((option.name, value.map(str::to_string))),
        }
        Ok(())
    }

    fn no_value_missing(&self) -> Result<(), String> {
        match self.waiting {
            Some(name) => Err(format!("Missing argument for option: {name}")),
            None => Ok(()),
        }
    }

    fn find(&self, name: &str) -> Option<&'static Opt> {
        self.options.iter().find(|option| !option.long && option.name == name)
    }

    fn is_option(&self, word: &str) -> bool {
        let Some(name) = word.strip_prefix('-').filter(|name| !name.is_empty()) else { return false };
        let stem = name.split_once('=').map_or(name, |(stem, _)| stem);
        let bare = stem.trim_start_matches('-');
        let known = |name: &str| self.options.iter().any(|option| option.name == name);
        known(bare) || name.chars().next().is_some_and(|first| known(first.encode_utf8(&mut [0; 4])))
    }
}

fn unrecognized(word: &str) -> String {
    format!("Unrecognized option: {word}")
}

fn is_negative_number(word: &str) -> bool {
    word.parse::<f64>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: &[Opt] = &[
        flag("s", "stat"),
        flag("w", "watch"),
        valued("v", "version", "version"),
        valued("file", "path", "a long name behind one dash"),
        Opt { name: "data", long: true, value: Some("file"), about: "ours" },
        Opt { name: "raw", long: true, value: None, about: "ours" },
    ];

    fn parsed(line: &str) -> Result<Parsed, String> {
        parse(OPTIONS, &line.split(' ').map(str::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn options_stand_anywhere_and_together() {
        for line in ["get -s -w /a", "get /a -sw", "get -w /a -s", "get -ws -- /a"] {
            let parsed = parsed(line).unwrap();
            assert_eq!(parsed.args, ["get", "/a"], "{line}");
            assert!(parsed.has("s") && parsed.has("w") && !parsed.has("v"), "{line}");
        }
        assert_eq!(parsed("get -- -s").unwrap().args, ["get", "-s"]);
        assert_eq!(parsed("set /a -").unwrap().args, ["set", "/a", "-"]);
    }

    #[test]
    fn values_follow_or_are_attached() {
        for line in ["x -v 3", "x -v3", "x -v=3", "x -sv 3", "x -sv3", "x -v 3 -v 4"] {
            assert_eq!(parsed(line).unwrap().value("v"), Some("3"), "{line}");
        }
        assert_eq!(parsed("x -v -3").unwrap().value("v"), Some("-3"), "a negative number");
        assert_eq!(parsed("x -v -q").unwrap().value("v"), Some("-q"), "no option that is known");
        assert_eq!(parsed("x -file f /a").unwrap().value("file"), Some("f"));
        assert_eq!(parsed("x --data f /a").unwrap().value("data"), Some("f"));
        assert_eq!(parsed("x --data=- /a").unwrap().value("data"), Some("-"));
        assert!(parsed("x --raw").unwrap().has("raw"));
    }

    #[test]
    fn what_is_refused() {
        for (line, word) in [
            ("x -q", "-q"),
            ("x -sq", "-sq"),
            ("x -s=1", "-s=1"),
            ("x --s", "--s"),
            ("x -file=f", "-file=f"),
            ("x --raw=1", "--raw=1"),
            ("x -raw", "-raw"),
        ] {
            assert_eq!(parsed(line), Err(format!("Unrecognized option: {word}")), "{line}");
        }
        for line in ["x -v", "x -v -s", "x -v --data f"] {
            assert_eq!(parsed(line), Err("Missing argument for option: v".into()), "{line}");
        }
    }
}
