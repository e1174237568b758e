//! What `eager init` found, for people.

use std::fmt::Write as _;
use std::path::Path;

use eager_data::guess::{Guess, Sample};
use eager_data::survey::{Survey, Unit};
use eager_data::{counted, thousands};

use super::Choice;
use crate::cli::quoted;

/// Everything that was found, and what to do next.
pub(super) fn tell(guess: &Guess, found: &Survey, choice: Option<&Choice>, out: &Path) -> String {
    let mut text = String::new();
    columns(&mut text, guess);
    figures(&mut text, found);
    if found.interactions > 0 {
        filters(&mut text, found, choice);
    }
    let notes = notes(guess, found);
    if !notes.is_empty() {
        text.push_str("\nto know:\n");
        notes
            .iter()
            .for_each(|note| line(&mut text, format!("  {note}")));
    }
    faults(&mut text, found);
    if let Some(choice) = choice {
        let out = out.display();
        let (users, items) = (choice.left.user_core, choice.left.item_core);
        line(
            &mut text,
            format!(
                "\n{out}: written, with at least {users} interactions a user and {items} an item"
            ),
        );
        let word = quoted(&out.to_string());
        line(
            &mut text,
            format!("next: eager pipeline {word} --text-encoder lsa"),
        );
        line(&mut text, "      (without --text-encoder: Sentence-T5 from the Hugging Face hub, as in the paper)".to_owned());
    }
    text
}

fn line(text: &mut String, line: String) {
    text.push_str(&line);
    text.push('\n');
}

/// Each file's columns with what they were taken for.
fn columns(text: &mut String, guess: &Guess) {
    let mut file = |sample: &Sample, what: &str| {
        let path = sample.path.display();
        line(text, format!("{path}: {what}, {}", sample.written()));
        let roles: Vec<_> = guess
            .roles
            .iter()
            .filter(|role| role.file == sample.path)
            .collect();
        let widest = roles
            .iter()
            .map(|role| role.column.chars().count())
            .max()
            .unwrap_or(0);
        for role in &roles {
            line(
                text,
                format!("  {:<12} {:<widest$}  {}", role.role, role.column, role.why),
            );
        }
        let unused = sample
            .columns
            .iter()
            .filter(|column| roles.iter().all(|role| role.column != column.name));
        let unused: Vec<&str> = unused.map(|column| column.name.as_str()).collect();
        if !unused.is_empty() {
            line(text, format!("  {:<12} {}", "not used", unused.join(", ")));
        }
    };
    file(&guess.interactions, "interactions");
    match &guess.items {
        Some(items) if items.path != guess.interactions.path => file(items, "items"),
        _ => {}
    }
}

fn figures(text: &mut String, found: &Survey) {
    text.push('\n');
    let mut figure = |name: &str, value: String| line(text, format!("{name:<14}{value:>14}"));
    figure("rows", thousands(found.rows));
    if found.interactions == 0 {
        return;
    }
    figure("interactions", thousands(found.interactions));
    figure("users", thousands(found.users));
    figure("items", thousands(found.items));
    if let Some(rows) = found.item_rows {
        figure("rows of items", thousands(rows));
    }
    figure("a user", format!("{} (median)", found.median_length));
    let Some(times) = &found.times else {
        return line(
            text,
            "times           none: each user's rows are taken to be in order".to_owned(),
        );
    };
    let unit = match times.unit {
        Unit::Unknown => " (in no unit that is known; their order is what counts)",
        Unit::Seconds => "",
        Unit::Milliseconds => " (in milliseconds)",
        Unit::Microseconds => " (in microseconds)",
        Unit::Nanoseconds => " (in nanoseconds)",
    };
    let [first, last] = times
        .dates()
        .unwrap_or_else(|| [times.first, times.last].map(|time| time.to_string()));
    line(text, format!("times           {first} to {last}{unit}"));
}

/// What each filter leaves; the chosen one is marked.
fn filters(text: &mut String, found: &Survey, choice: Option<&Choice>) {
    line(
        text,
        format!(
            "\n{:<30}{:>10}{:>10}{:>14}",
            "left by the filter", "users", "items", "interactions"
        ),
    );
    for left in &found.filters {
        let name = format!("{} a user, {} an item", left.user_core, left.item_core);
        let chosen = choice.is_some_and(|choice| choice.left == *left);
        let _ = writeln!(
            text,
            "  {name:<28}{:>10}{:>10}{:>14}{}",
            thousands(left.users),
            thousands(left.items),
            thousands(left.interactions),
            if chosen { "  chosen" } else { "" }
        );
    }
    line(
        text,
        "  of each user the last interaction is the test, the one before it the validation"
            .to_owned(),
    );
}

/// What is no fault, and yet not what everybody expects.
fn notes(guess: &Guess, found: &Survey) -> Vec<String> {
    let log = guess.interactions.path.display();
    let mut notes = Vec::new();
    if found.repeats > 0 {
        let mut note = format!(
            "{} a user has an item again; all are kept",
            counted(thousands(found.repeats), "time")
        );
        if found.duplicates > 0 {
            let _ = write!(
                note,
                ", {} of them at the very same time, as rows that are there twice",
                thousands(found.duplicates)
            );
        }
        notes.push(note);
    }
    for (unit, count, at) in found.times.iter().flat_map(|times| &times.other_units) {
        notes.push(format!(
            "{} {} like {}, unlike the rest; the first is {log}:{at}",
            counted(thousands(*count), "time"),
            if *count == 1 { "looks" } else { "look" },
            match unit {
                Unit::Unknown => "no time of this age",
                Unit::Seconds => "seconds",
                Unit::Milliseconds => "milliseconds",
                Unit::Microseconds => "microseconds",
                Unit::Nanoseconds => "nanoseconds",
            }
        ));
    }
    if let (Some(missing), Some(items)) = (&found.undescribed, &guess.items) {
        notes.push(format!(
            "{} without a row in {}, the first is {} of {log}:{}; kept with the id alone",
            counted(thousands(missing.count), "item"),
            items.path.display(),
            missing.item,
            missing.line
        ));
    }
    match &found.without_text {
        Some(missing) if missing.count == found.items => notes.push(
            "no item has a text, so that the semantic stream has ids alone to go on; give a table of items, or ready-made vectors"
                .to_owned(),
        ),
        Some(missing) => notes.push(format!(
            "{} without a text, the first is {} of {log}:{}; `item <id>` stands for it",
            counted(thousands(missing.count), "item"),
            missing.item,
            missing.line
        )),
        None => {}
    }
    let lacking = found.without_text.as_ref();
    let described = found.items - lacking.map_or(0, |missing| missing.count);
    if found.texts * 2 < described {
        notes.push(format!(
            "{} have {} ({}), so that the semantic stream cannot tell them apart; name more columns with --text",
            counted(thousands(described), "item"),
            counted(thousands(found.texts), "different text"),
            guess.text.join(", ")
        ));
    }
    notes
}

fn faults(text: &mut String, found: &Survey) {
    for faults in &found.faults {
        let times = if faults.count == 1 {
            "once".to_owned()
        } else {
            format!("{} times", thousands(faults.count))
        };
        let file = faults.file.display();
        line(text, format!("\nfault in {file}: {}, {times}", faults.kind));
        let more = faults.count - faults.first.len();
        // Where many values are written otherwise, it is not for the lines to be mended one by one.
        let mend = "; correct or remove the line";
        let column = more > 0 && faults.first.iter().all(|(_, words)| words.ends_with(mend));
        for (at, words) in &faults.first {
            let words = words.strip_suffix(mend).filter(|_| column).unwrap_or(words);
            line(text, format!("  {file}:{at}: {words}"));
        }
        if more > 0 {
            let advice = if column { "; convert the column" } else { "" };
            line(text, format!("  … and {} more{advice}", thousands(more)));
        }
        if faults.ended {
            line(text, "  the reading of this file ended there".to_owned());
        }
    }
}
