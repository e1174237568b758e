//! Building blocks of the pages that the command writes: one file each, with style, plots and data inside, and no address
//! of anything outside. Everything that `maud` is given as text is escaped.

pub mod plot;

use indicatif::{BinaryBytes, HumanCount};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde::Serialize;

use anyhow::{Context as _, Result};
use plot::{Colour, Plot};

const STYLE: &str = include_str!("style.css");

/// A whole page.
#[must_use]
pub fn document(title: &str, body: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                // Both are this program's own text.
                style { (PreEscaped(plot::style())) (PreEscaped(STYLE)) }
            }
            body { main { (body) } }
        }
    };
    page.into_string()
}

/// A part of a page with its heading and what to see in it; `id` is what links jump to.
#[must_use]
pub fn section(id: &str, title: &str, caption: &str, body: &Markup) -> Markup {
    html! {
        section id=(id) aria-labelledby={ (id) "-title" } {
            h2 id={ (id) "-title" } { (title) }
            @if !caption.is_empty() { p.caption { (caption) } }
            (body)
        }
    }
}

/// A plot with its title, its legend and what to see in it.
#[must_use]
pub fn figure(title: &str, plot: &Plot, caption: &str) -> Markup {
    html! {
        figure {
            h3 { (title) }
            (legend(&plot.legend))
            (PreEscaped(&plot.svg))
            @if !caption.is_empty() { figcaption { (caption) } }
        }
    }
}

/// Names in their colours; nothing where there is one alone.
#[must_use]
pub fn legend(names: &[(String, Colour)]) -> Markup {
    html! {
        @if names.len() > 1 {
            ul.legend {
                @for (name, colour) in names {
                    li { span class={ "key key-" (colour.class()) } {} (name) }
                }
            }
        }
    }
}

/// A table in a box of its own that scrolls where the page is narrow. The first column names the rows, all others are
/// numbers; `label` says above it what it is.
#[must_use]
pub fn table(label: &str, head: &[Markup], rows: &[Vec<Markup>]) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label=(label) {
            table {
                caption { span { (label) } }
                thead { tr { @for title in head { th scope="col" { (title) } } } }
                tbody {
                    @for row in rows {
                        tr {
                            @for (place, cell) in row.iter().enumerate() {
                                @if place == 0 { th scope="row" { (cell) } } @else { td { (cell) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Data for a script of the page: JSON in which no `<` can end the element.
///
/// # Errors
/// When the value cannot be written as JSON.
pub fn data<T: Serialize>(id: &str, value: &T) -> Result<Markup> {
    let json = serde_json::to_string(value).with_context(|| format!("data of {id}"))?;
    let json = json.replace('<', "\\u003c");
    Ok(html! { script type="application/json" id=(id) { (PreEscaped(json)) } })
}

/// `12,101`.
#[must_use]
pub fn count(n: u64) -> String {
    HumanCount(n).to_string()
}

/// `0.2 s`, `8 min 2 s`, `1 h 5 min`.
#[must_use]
pub fn duration(seconds: f64) -> String {
    if seconds < 60.0 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    if whole < 3600 {
        format!("{} min {} s", whole / 60, whole % 60)
    } else {
        format!("{} h {} min", whole / 3600, whole % 3600 / 60)
    }
}

/// `409.8 MiB`, with a space that does not break.
#[must_use]
pub fn bytes(n: u64) -> String {
    BinaryBytes(n).to_string().replace(' ', "\u{a0}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_text() {
        let evil = "</script><script>alert('x')</script>&\"";
        let body = html! {
            (section("id", evil, evil, &table(evil, &[html! { (evil) }], &[vec![html! { (evil) }]])))
            (legend(&[(evil.to_owned(), Colour::Merged), (evil.to_owned(), Colour::Paper)]))
            (data("data", &evil).unwrap())
        };
        let page = document(evil, &body);
        assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>"));
        assert_eq!(page.matches("<script").count(), 1);
        assert_eq!(page.matches("</script").count(), 1);
        assert!(page.contains("\\u003c/script>"));
        assert_eq!(page.matches("&lt;script&gt;alert").count(), 9);
    }

    #[test]
    fn quantities_read() {
        assert_eq!(count(12_101), "12,101");
        let durations = [0.24, 59.97, 482.3, 3900.0].map(duration);
        assert_eq!(durations, ["0.2 s", "60.0 s", "8 min 2 s", "1 h 5 min"]);
        assert_eq!(bytes(429_780_992), "409.87\u{a0}MiB");
    }
}
