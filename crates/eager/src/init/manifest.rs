//! The manifest that `eager init` writes: TOML with comments, for people to go on with.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use eager_data::guess::Guess;
use eager_data::survey::{Left, Survey};
use eager_data::{FileRef, Manifest, Source, thousands};
use toml::Value;

use super::Choice;
use crate::config::Config;
use crate::overrides;

/// Up to so many interactions a smaller model learns as much in less time.
const SMALL: usize = 50_000;

/// Its examples an update.
const BATCH: usize = 128;

/// The manifest's text, for a file at `out`.
pub(super) fn text(guess: &Guess, found: &Survey, choice: &Choice, out: &Path) -> Result<String> {
    let folder = out.parent().unwrap_or(Path::new(""));
    let source = guess.source(folder)?;
    let names: Vec<String> = source
        .files()
        .iter()
        .map(|file| file.name.clone())
        .collect();
    let mut text = format!(
        "# Written by `eager init`; every key is described in docs/datasets.md. Change what you like.\n\
         name = {}\ntitle = {}\nabout = {}\n\n",
        quoted(&choice.name),
        quoted(&names.join(", ")),
        quoted(&about(found))
    );
    source_table(&mut text, guess, &source);
    prepare(&mut text, found, choice);
    item_text(&mut text, choice);
    settings(&mut text, choice);
    Ok(text)
}

/// A manifest that the pipeline would refuse is never written.
pub(super) fn check(text: &str, out: &Path) -> Result<()> {
    let manifest = Manifest::parse(text, out)?;
    let config = overrides::resolve(&Config::paper(&manifest), &manifest.settings, None, &[])?;
    config.validate().context("the settings")
}

fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

fn about(found: &Survey) -> String {
    let mut about = format!(
        "{} interactions of {} users with {} items",
        thousands(found.interactions),
        thousands(found.users),
        thousands(found.items)
    );
    if let Some([first, last]) = found.times.as_ref().and_then(|times| times.dates()) {
        let _ = write!(about, ", {first} to {last} UTC");
    }
    about
}

fn source_table(text: &mut String, guess: &Guess, source: &Source) {
    let file = |file: &FileRef| match file.delimiter {
        Some(delimiter) => format!(
            "{{ name = {}, delimiter = {} }}",
            quoted(&file.name),
            quoted(&delimiter.to_string())
        ),
        None => format!("{{ name = {} }}", quoted(&file.name)),
    };
    let _ = writeln!(text, "[[source]]\nformat = {}", quoted(source.format()));
    if let Source::Table {
        interactions,
        items,
        ..
    }
    | Source::Recbole {
        interactions,
        items,
        ..
    } = source
    {
        let _ = writeln!(text, "interactions = {}", file(interactions));
        if let Some(items) = items {
            let _ = writeln!(text, "items = {}", file(items));
        }
    }
    let _ = writeln!(text, "\n[source.columns]");
    for role in guess.roles.iter().filter(|role| role.role != "extra") {
        let key = if role.role == "time" {
            "timestamp"
        } else {
            role.role
        };
        let _ = writeln!(text, "{key} = {}  # {}", quoted(&role.column), role.why);
    }
    let columns = &guess.columns;
    if columns.timestamp.is_none() {
        text.push_str("# no timestamp: each user's rows are in order\n");
    }
    if !columns.extra.is_empty() {
        let extra = columns
            .extra
            .iter()
            .map(|name| quoted(name))
            .collect::<Vec<_>>();
        let _ = writeln!(
            text,
            "extra = [{}]  # further columns for the text",
            extra.join(", ")
        );
    }
    if columns.categories.is_some() {
        let _ = writeln!(
            text,
            "separator = {}  # between categories",
            quoted(&columns.separator)
        );
    }
}

fn prepare(text: &mut String, found: &Survey, choice: &Choice) {
    text.push_str("\n# Users and items with fewer interactions are dropped, in turn, until all that are left hold.\n");
    for left in &found.filters {
        let _ = writeln!(
            text,
            "# {} and {}: {} users, {} items, {} interactions are left",
            left.user_core,
            left.item_core,
            thousands(left.users),
            thousands(left.items),
            thousands(left.interactions)
        );
    }
    let left = choice.left;
    let _ = write!(
        text,
        "[prepare]\nuser_core = {}\nitem_core = {}\norder = \"time\"\nties = \"file\"\n",
        left.user_core, left.item_core
    );
}

fn item_text(text: &mut String, choice: &Choice) {
    let parts: Vec<String> = choice
        .template
        .parts
        .iter()
        .map(|part| quoted(part))
        .collect();
    let _ = write!(
        text,
        "\n# How an item becomes the text that the semantic stream reads; a part with a field that is not known is dropped.\n\
         [text]\nparts = [{}]\n",
        parts.join(", ")
    );
    if let Some(fallback) = &choice.template.fallback {
        let _ = writeln!(
            text,
            "fallback = {}  # for items without any",
            quoted(fallback)
        );
    }
}

/// How long a training lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Course {
    epochs: usize,
    patience: usize,
    warmup: usize,
    log_every: usize,
}

/// DIN's, where an epoch has a hundred updates or more.
const DIN: Course = Course {
    epochs: 12,
    patience: 2,
    warmup: 100,
    log_every: 100,
};

/// The generator's.
const GENERATOR: Course = Course {
    epochs: 15,
    patience: 3,
    warmup: 200,
    log_every: 50,
};

impl Course {
    /// As many updates in more epochs, up to 60, where an epoch has fewer; else training would end in the warm-up.
    fn of(self, left: &Left) -> Self {
        // Of a user's interactions the last two are held out, and the first is no target.
        let examples = left.interactions.saturating_sub(3 * left.users);
        let updates = examples.div_ceil(BATCH).clamp(1, 100);
        Self {
            epochs: (100 * self.epochs).div_ceil(updates).min(60),
            patience: (100 * self.patience).div_ceil(updates).min(10),
            warmup: (self.warmup * updates / 100).max(10),
            log_every: self.log_every.min(updates),
        }
    }

    /// As the settings have it.
    fn keys(self) -> String {
        format!(
            "max_epochs = {}, patience = {}, log_every = {}, schedule.warmup = {}",
            self.epochs, self.patience, self.log_every, self.warmup
        )
    }
}

/// A model as small as the data; larger data get the paper's, which needs no settings.
fn settings(text: &mut String, choice: &Choice) {
    let left = choice.left;
    if left.interactions > SMALL {
        return;
    }
    let branching = if left.items <= 2_000 { 32 } else { 64 };
    let [din, generator] = [DIN, GENERATOR].map(|course| course.of(&left).keys());
    let _ = write!(
        text,
        "\n# A smaller model than the paper's, as there are few interactions; delete this for the paper's. See docs/configuration.md.\n\
         [settings]\n\
         codes.behaviour.branching = {branching}\n\
         codes.semantic.branching = {branching}\n\
         behaviour.training = {{ batch_size = {BATCH}, valid_users = 500, {din}, schedule.half_life = 600.0 }}\n\
         model = {{ d_model = 64, feed_forward = 256, decoder_layers = 2 }}\n\
         training = {{ batch_size = {BATCH}, valid_users = 1000, {generator} }}\n"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Training is as long in updates, so that it ends neither in the warm-up nor before the first line of its log.
    #[test]
    fn little_data_get_more_epochs_and_a_shorter_warm_up() {
        let left = |interactions, users| Left {
            user_core: 5,
            item_core: 5,
            users,
            items: 60,
            interactions,
        };
        // Ten updates an epoch.
        let expected = Course {
            epochs: 60,
            patience: 10,
            warmup: 20,
            log_every: 10,
        };
        assert_eq!(GENERATOR.of(&left(1_795, 200)), expected);
        for (interactions, users) in [(3, 1), (1_795, 200), (4_844, 540), (40_000, 4_000)] {
            for full in [DIN, GENERATOR] {
                let found = full.of(&left(interactions, users));
                let updates = (interactions - 3 * users).div_ceil(BATCH).max(1);
                assert!(found.warmup * 2 < found.epochs * updates, "{found:?}");
                assert!(found.log_every <= updates, "{found:?}");
                assert_eq!(found == full, updates >= 100, "{found:?}");
            }
        }
    }
}
