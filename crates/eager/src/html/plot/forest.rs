//! Rows from top to bottom, each with its value, interval and single values on one axis: a forest plot.

use anyhow::Result;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{Axis, Colour, FONT, Frame, Plot, Point, SIDE, SIZE, Scale, UNIT, draw, text_style};

/// Height of a row, pixels: its name, its value, its single values below each other.
const ROW: u32 = 40;
/// From the axis to a name, pixels.
const INDENT: u32 = 4;
/// Room for a name, which stands above its value and ends with the axis, in heights of the font.
const ROOM: f64 = (SIZE.0 - 2 * SIDE - INDENT) as f64 / FONT;

/// One row.
#[derive(Clone, Debug)]
pub struct Row {
    /// What it is.
    pub name: String,
    /// Its colour.
    pub colour: Colour,
    /// Its value, a large dot, with its interval; `None` for a row with a name alone.
    pub point: Option<Point>,
    /// What the value is the mean of: small dots under it.
    pub parts: Vec<f64>,
}

/// An upright line over all rows.
#[derive(Clone, Debug)]
pub struct Mark {
    /// Where on the axis.
    pub at: f64,
    /// What stands above it.
    pub name: String,
    /// Its colour.
    pub colour: Colour,
}

/// Rows over a numeric axis, which holds all values and marks; as high as there are rows. `alt` as for
/// [`lines`](super::lines).
///
/// # Errors
/// When `plotters` cannot draw it.
pub fn forest(alt: &str, x: &Axis<'_>, rows: &[Row], marks: &[Mark]) -> Result<Plot> {
    let values = rows.iter().flat_map(|row| {
        let point = row.point.iter().flat_map(|point| {
            let (low, high) = point.interval.unwrap_or((point.value, point.value));
            [low, point.value, high]
        });
        point.chain(row.parts.iter().copied())
    });
    let x = Scale::of(x, values.chain(marks.iter().map(|mark| mark.at)), 5);
    let y = Scale::categories("", rows.len());
    let below = 10 + 16 + if x.label.is_empty() { 0 } else { 20 };
    let frame = Frame {
        size: (SIZE.0, 20 + ROW * rows.len().max(1) as u32 + below),
        left: SIDE,
        lines: 1,
    };
    let svg = draw(alt, &x, &y, &frame, |canvas, chart| {
        for mark in marks {
            let at = x.place(mark.at);
            let path = vec![(at, y.low), (at, y.high)];
            chart.draw_series([PathElement::new(path, mark.colour.line(1.4))])?;
            // Near an end the text stays inside.
            let side = match (at - x.low) / (x.high - x.low) {
                share if share < 0.2 => HPos::Left,
                share if share > 0.8 => HPos::Right,
                _ => HPos::Center,
            };
            let (at, top) = chart.plotting_area().map_coordinate(&(at, y.high));
            let style = text_style(Pos::new(side, VPos::Bottom));
            let above = (at, top - 2 * UNIT as i32);
            canvas.draw(&Text::new(mark.name.clone(), above, style))?;
        }
        for (place, row) in rows.iter().enumerate() {
            let middle = (rows.len() - 1 - place) as f64;
            let (left, top) = chart.plotting_area().map_coordinate(&(x.low, middle + 0.5));
            let style = text_style(Pos::new(HPos::Left, VPos::Top));
            let name = (left + (INDENT * UNIT) as i32, top + 3 * UNIT as i32);
            canvas.draw(&Text::new(cut(&row.name), name, style))?;
            let value = middle - 0.13;
            if let Some(point) = row.point {
                if let Some((low, high)) = point.interval {
                    let path = vec![(x.place(low), value), (x.place(high), value)];
                    chart.draw_series([PathElement::new(path, row.colour.line(2.0))])?;
                }
                let dot = (x.place(point.value), value);
                chart.draw_series([Circle::new(dot, 4 * UNIT, row.colour.rgb().filled())])?;
            }
            let small = row.parts.iter().map(|&part| {
                let at = (x.place(part), middle - 0.36);
                Circle::new(at, 2 * UNIT, row.colour.rgb().filled())
            });
            chart.draw_series(small)?;
        }
        Ok(())
    })?;
    Ok(Plot {
        svg,
        legend: vec![],
    })
}

/// About how wide a character is, in heights of the font. Which font it is, the page's reader decides.
fn width(c: char) -> f64 {
    match c {
        // Hangul; Chinese and Japanese, and what else is as wide, such as an emoji.
        '\u{1100}'..='\u{11FF}' | '\u{2E80}'..=char::MAX | '…' => 1.0,
        _ if c.is_uppercase() => 0.75,
        _ => 0.55,
    }
}

/// A name that fits above its row.
fn cut(name: &str) -> String {
    if name.chars().map(width).sum::<f64>() <= ROOM {
        return name.to_owned();
    }
    let mut room = ROOM - width('…');
    let fits = |c: &char| {
        room -= width(*c);
        room >= 0.0
    };
    let kept: String = name.chars().take_while(fits).collect();
    format!("{}…", kept.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_its_value_its_interval_and_its_parts() {
        let row = |name: &str, point, parts: &[f64]| Row {
            name: name.to_owned(),
            colour: Colour::Merged,
            point,
            parts: parts.to_vec(),
        };
        let point = Some(Point {
            value: 0.2,
            interval: Some((0.1, 0.3)),
        });
        let rows = [
            row("a & b", point, &[0.15, 0.25]),
            row("none", None, &[]),
            row(&"long ".repeat(20), point, &[]),
        ];
        let mark = Mark {
            at: 0.9,
            name: "paper".to_owned(),
            colour: Colour::Paper,
        };
        let axis = Axis {
            label: "",
            log: false,
            zero: false,
        };
        let svg = forest("alt", &axis, &rows, &[mark]).unwrap().svg;
        assert_eq!(svg.matches("<circle").count(), 4);
        assert!(svg.contains("a &amp; b") && svg.contains("paper") && svg.contains("long lon…"));
        // Names lie above the mark, whose line they interrupt.
        let line = svg.find("stroke=\"#202428\"").unwrap();
        assert!(line < svg.find("a &amp; b").unwrap());
        assert!(super::super::style().contains("paint-order:stroke;stroke:var(--page)"));
        // The mark is on the axis too, and the plot as high as three rows need.
        assert!(
            svg.contains("0.8") && svg.starts_with("<svg class=\"plot\" viewBox=\"0 0 4400 1660\"")
        );
        assert!(forest("alt", &axis, &[], &[]).is_ok());
    }

    #[test]
    fn names_are_cut_by_their_width() {
        let kept = |name: &str| {
            let short = cut(name);
            let whole = short == name;
            (short.chars().count() - usize::from(!whole), whole)
        };
        // 30.15 times the font's height, less the ellipsis.
        let letters = [("a", 54, 53), ("Ä", 40, 38), ("靴", 30, 29), ("한", 30, 29)];
        for (letter, most, cut_to) in letters {
            assert_eq!(kept(&letter.repeat(most)), (most, true), "{letter}");
            assert_eq!(kept(&letter.repeat(most + 1)), (cut_to, false), "{letter}");
        }
        let start = "a".repeat(52);
        assert_eq!(cut(&format!("{start} bcd")), format!("{start}…"));
    }
}
