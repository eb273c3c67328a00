//! The line editor of a terminal: keys, history over runs, completion, and room for events above the prompt.

use std::borrow::Cow;
use std::env;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustyline::completion::Completer;
use rustyline::config::Configurer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Context, Editor, ExternalPrinter, Helper};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::completion::{self, Wanted};
use super::input::{Input, Lines};
use super::paint::{Paint, Tone};
use crate::client::{Client, State};

/// Lines of history that are kept.
const MAX_HISTORY: usize = 1000;

/// How long Tab may wait for a server: who types does not wait longer.
const COMPLETION_LIMIT: Duration = Duration::from_secs(2);

/// The client that completion asks; the shell changes it.
pub type Current = Arc<Mutex<Option<Client>>>;

/// Prints above the prompt while somebody types.
pub type AbovePrompt = Box<dyn FnMut(String) + Send>;

/// Starts an editor on the terminal. `history` is the file that outlives this run, if there shall be one.
pub fn start(
    client: Current,
    paint: Paint,
    history: Option<PathBuf>,
) -> rustyline::Result<(Lines, AbovePrompt)> {
    let mut editor: Editor<Hands, DefaultHistory> = Editor::new()?;
    editor.set_completion_type(CompletionType::List);
    editor.set_max_history_size(MAX_HISTORY)?;
    editor.set_history_ignore_dups(true)?;
    editor.set_helper(Some(Hands { client, runtime: Handle::current(), paint }));
    if let Some(file) = &history {
        // The first run has none.
        let _ = editor.load_history(file);
    }
    let mut printer = editor.create_external_printer()?;
    let above: AbovePrompt = Box::new(move |text| {
        // A terminal that is gone ends the editor, too.
        let _ = printer.print(text);
    });
    let lines = Lines::start(move |prompt| match editor.readline(prompt) {
        Ok(line) => {
            remember(&mut editor, &line, history.as_deref());
            Input::Line(line)
        }
        Err(ReadlineError::Interrupted) => Input::Interrupted,
        Err(ReadlineError::Eof) => Input::End,
        Err(error) => Input::Failed(format!("terminal: {error}")),
    });
    Ok((lines, above))
}

/// Keeps a line, in the file at once: a shell may be killed. Secrets are not kept.
fn remember(editor: &mut Editor<Hands, DefaultHistory>, line: &str, file: Option<&Path>) {
    if !is_kept(line) || !editor.add_history_entry(line).unwrap_or(false) {
        return;
    }
    if let Some(file) = file {
        if let Some(directory) = file.parent() {
            let _ = std::fs::create_dir_all(directory);
        }
        // A history that cannot be kept is no reason to stop working.
        let _ = editor.append_history(file);
    }
}

/// Identities are secrets.
fn is_kept(line: &str) -> bool {
    !line.trim().is_empty() && !line.trim_start().starts_with("addauth")
}

/// The file of the history: `ZABRA_CLI_HISTORY`, else in the user's directory of such things. An empty name is none.
pub fn history_file() -> Option<PathBuf> {
    let directory = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    match env::var_os("ZABRA_CLI_HISTORY") {
        Some(file) => Some(PathBuf::from(file)).filter(|file| !file.as_os_str().is_empty()),
        None => directory("XDG_STATE_HOME")
            .or_else(|| Some(directory("HOME")?.join(".local/state")))
            .map(|state| state.join("zabra/cli-history")),
    }
}

/// What the editor asks while somebody types.
struct Hands {
    client: Current,
    runtime: Handle,
    paint: Paint,
}

impl Hands {
    /// The names of a znode's children; none if they cannot be had soon.
    fn children(&self, parent: &str) -> Vec<String> {
        let client = self.client.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(client) = client.filter(|client| matches!(client.state(), State::Connected(_))) else {
            return Vec::new();
        };
        let asked = async { timeout(COMPLETION_LIMIT, client.get_children(parent, false)).await };
        match self.runtime.block_on(asked) {
            Ok(Ok((names, _))) => names.iter().map(|name| name.to_string()).collect(),
            _ => Vec::new(),
        }
    }
}

impl Completer for Hands {
    type Candidate = String;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let typed = completion::typed(&line[..pos]);
        let children = match &typed.wanted {
            Wanted::Path { parent, .. } => self.children(parent),
            _ => Vec::new(),
        };
        let mut candidates = completion::candidates(&typed.wanted, &children);
        if let ([only], false) = (&mut candidates[..], matches!(typed.wanted, Wanted::Path { .. })) {
            // The word is done; a path may go on.
            only.push(' ');
        }
        Ok((typed.start, candidates))
    }
}

impl Highlighter for Hands {
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, _: bool) -> Cow<'b, str> {
        let (Some(open), Some(close)) = (prompt.find('('), prompt.rfind(')')) else { return prompt.into() };
        let state = &prompt[open + 1..close];
        let tone = match state {
            "CONNECTED" => Tone::Good,
            "CONNECTEDREADONLY" | "CONNECTING" => Tone::Notice,
            _ => Tone::Bad,
        };
        format!("{}{}{}", &prompt[..=open], self.paint.out(tone, state), &prompt[close..]).into()
    }
}

impl Hinter for Hands {
    type Hint = String;
}

impl Validator for Hands {}

impl Helper for Hands {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_kept() {
        for (line, kept) in
            [("ls /", true), ("addauth digest bob:secret", false), ("  addauth x", false), (" ", false)]
        {
            assert_eq!(is_kept(line), kept, "{line:?}");
        }
    }
}
