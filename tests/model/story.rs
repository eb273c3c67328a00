//! How a state came about, so that a failure can be told as a story.

use std::any::Any;
use std::cell::RefCell;
use std::sync::Arc;

use crate::{election, zab};

/// An event in one of the models.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    Election(election::Action),
    Zab(zab::Action),
}

/// The events that led to a state, the newest first. States share what they have in common.
#[derive(Clone, Debug, Default)]
pub struct Trail(Option<Arc<(Step, Trail)>>);

impl Trail {
    pub fn add(&mut self, step: Step) {
        *self = Trail(Some(Arc::new((step, std::mem::take(self)))));
    }

    /// One line an event.
    fn tell(&self) -> String {
        let (mut lines, mut rest) = (Vec::new(), self);
        while let Some(it) = &rest.0 {
            lines.push(match it.0 {
                Step::Election(action) => format!("  {action:?}"),
                Step::Zab(action) => format!("  {action:?}"),
            });
            rest = &it.1;
        }
        lines.reverse();
        lines.join("\n")
    }
}

thread_local! {
    static LAST: RefCell<Trail> = RefCell::default();
}

/// This is what happens now.
pub fn remember(trail: &Trail) {
    LAST.with_borrow_mut(|last| last.clone_from(trail));
}

/// In a program that ends with its first panic, as all of ours do, the story must be told before.
pub fn tell_of_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        usual(panic);
        LAST.with_borrow(|trail| eprintln!("an assertion of the cores fails after\n{}", trail.tell()));
    }));
}

/// What a panic says.
pub fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|it| (*it).to_owned())).unwrap_or_default()
}
