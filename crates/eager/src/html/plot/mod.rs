//! Plots as inline SVG, of numbers that come from anywhere: lines, points with intervals, stacked bars,
//! rows with intervals.
//!
//! Drawn with `plotters` at a fixed size in units of a tenth of a pixel (its coordinates are whole numbers); the page scales
//! them to the width there is, and its style sheet ([`style`]) gives every colour its light and its dark form.

mod colour;
mod forest;
mod scale;

use anyhow::{Result, anyhow};
use maud::html;
use plotters::chart::ChartContext;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

pub use colour::{Colour, style};
pub use forest::{Mark, Row, forest};
pub use scale::Axis;

use scale::{Coordinate, Scale};

/// Units of the drawing in a pixel.
const UNIT: u32 = 10;
/// Size of a plot, pixels; one of rows is as high as they need.
const SIZE: (u32, u32) = (440, 270);
/// Of labels, pixels.
const FONT: f64 = 13.0;
/// Room beside the axes where nothing but half of a tick's label has to fit, pixels.
const SIDE: u32 = 22;

/// A plot to be put into a page, see [`figure`](super::figure).
#[derive(Clone, Debug)]
pub struct Plot {
    /// An `<svg>` element.
    pub svg: String,
    /// What is drawn in which colour.
    pub legend: Vec<(String, Colour)>,
}

/// Points joined by a line.
#[derive(Clone, Debug)]
pub struct Line {
    /// What it is.
    pub name: String,
    /// Its colour.
    pub colour: Colour,
    /// Ascending in x; points that an axis cannot show (not finite, or ≤ 0 where it is logarithmic) are left out.
    pub points: Vec<(f64, f64)>,
    /// Lower and upper end in y at every point; empty for none.
    pub intervals: Vec<(f64, f64)>,
    /// Whether the points are marked.
    pub dots: bool,
}

/// One value of a category.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Point {
    /// The value.
    pub value: f64,
    /// Lower and upper end, where it has an interval.
    pub interval: Option<(f64, f64)>,
}

/// A value for each category.
#[derive(Clone, Debug)]
pub struct Points {
    /// What it is.
    pub name: String,
    /// Its colour.
    pub colour: Colour,
    /// In the order of the categories; `None` where there is none.
    pub values: Vec<Option<Point>>,
}

/// What is around a plot's body.
struct Frame {
    /// Of the whole, pixels.
    size: (u32, u32),
    /// Room for labels on the left, pixels.
    left: u32,
    /// Lines of text below.
    lines: usize,
}

impl Frame {
    /// The usual size, with room for so many lines of text below.
    fn below(lines: usize) -> Self {
        Self {
            size: SIZE,
            left: 54,
            lines,
        }
    }
}

type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'c, 'a> = ChartContext<'c, SVGBackend<'a>, Cartesian2d<Coordinate, Coordinate>>;

/// Lines over a numeric axis. `mark` is a place on the horizontal axis to draw an upright line at, with what it is; `alt`
/// says what is to be seen to those who cannot see it.
///
/// # Errors
/// When `plotters` cannot draw it.
pub fn lines(
    alt: &str,
    x: &Axis<'_>,
    y: &Axis<'_>,
    series: &[Line],
    mark: Option<(f64, &str)>,
) -> Result<Plot> {
    let all = || series.iter().flat_map(|line| line.points.iter().copied());
    let x = Scale::of(x, all().map(|p| p.0), 5);
    let y = Scale::of(y, all().map(|p| p.1), 5);
    let svg = draw(alt, &x, &y, &Frame::below(1), |canvas, chart| {
        if let Some((place, name)) = mark {
            let place = x.place(place);
            let path = vec![(place, y.low), (place, y.high)];
            chart.draw_series([PathElement::new(path, Colour::Ink.line(1.0))])?;
            let (at, top) = chart.plotting_area().map_coordinate(&(place, y.high));
            let style = text_style(Pos::new(HPos::Center, VPos::Bottom));
            let above = (at, top - 2 * UNIT as i32);
            canvas.draw(&Text::new(name.to_owned(), above, style))?;
        }
        for line in series {
            let shown = |p: &&(f64, f64)| x.shows(p.0) && y.shows(p.1);
            let at = |&(a, b): &(f64, f64)| (x.place(a), y.place(b));
            let points: Vec<(f64, f64)> = line.points.iter().filter(shown).map(at).collect();
            let bars = line.points.iter().zip(&line.intervals);
            let bars = bars
                .filter(|(point, _)| shown(point))
                .map(|(point, ends)| upright(&x, &y, point.0, *ends, line.colour));
            chart.draw_series(bars)?;
            if line.dots {
                let dot = |&at: &(f64, f64)| Circle::new(at, 3 * UNIT, line.colour.rgb().filled());
                chart.draw_series(points.iter().map(dot))?;
            }
            chart.draw_series([PathElement::new(points, line.colour.line(1.8))])?;
        }
        Ok(())
    })?;
    let legend = series.iter().map(|line| (line.name.clone(), line.colour));
    Ok(Plot {
        svg,
        legend: legend.collect(),
    })
}

/// Values of categories as dots with their intervals, side by side where there are several. A category's name may have a
/// second line.
///
/// # Errors
/// When `plotters` cannot draw it.
pub fn points(
    alt: &str,
    x_label: &str,
    categories: &[String],
    y: &Axis<'_>,
    series: &[Points],
) -> Result<Plot> {
    let all = series.iter().flat_map(|points| points.values.iter());
    let ends = all.flatten().flat_map(|point| {
        let (low, high) = point.interval.unwrap_or((point.value, point.value));
        [low, point.value, high]
    });
    let y = Scale::of(y, ends, 5);
    let x = Scale::categories(x_label, categories.len());
    let apart = 0.6 / series.len().max(1) as f64;
    let below = categories.iter().map(|name| name.lines().count()).max();
    let frame = Frame::below(below.unwrap_or(0));
    let svg = draw(alt, &x, &y, &frame, |canvas, chart| {
        for (place, name) in categories.iter().enumerate() {
            let (left, bottom) = chart.plotting_area().map_coordinate(&(place as f64, y.low));
            for (line, text) in (0..).zip(name.lines()) {
                let below = bottom + (8 + 16 * line) * UNIT as i32;
                let style = text_style(Pos::new(HPos::Center, VPos::Top));
                canvas.draw(&Text::new(text.to_owned(), (left, below), style))?;
            }
        }
        for (of, points) in series.iter().enumerate() {
            let aside = apart * (of as f64 - (series.len() - 1) as f64 / 2.0);
            let shown = points.values.iter().enumerate();
            let shown: Vec<(f64, Point)> = shown
                .filter_map(|(place, point)| Some((place as f64 + aside, (*point)?)))
                .filter(|(_, point)| y.shows(point.value))
                .collect();
            let bars = shown.iter().filter_map(|(at, point)| {
                Some(upright(&x, &y, *at, point.interval?, points.colour))
            });
            chart.draw_series(bars)?;
            let dots = shown.iter().map(|(at, point)| {
                let at = (*at, y.place(point.value));
                Circle::new(
                    at,
                    (3.5 * f64::from(UNIT)) as u32,
                    points.colour.rgb().filled(),
                )
            });
            chart.draw_series(dots)?;
        }
        Ok(())
    })?;
    let legend = series
        .iter()
        .map(|points| (points.name.clone(), points.colour));
    Ok(Plot {
        svg,
        legend: legend.collect(),
    })
}

/// Lying bars, one a category from above, each cut into parts `[categories][parts]` in the order of `parts`.
///
/// # Errors
/// When `plotters` cannot draw it.
pub fn stacked(
    alt: &str,
    x_label: &str,
    categories: &[String],
    parts: &[(String, Colour)],
    values: &[Vec<f64>],
) -> Result<Plot> {
    let axis = Axis {
        label: x_label,
        log: false,
        zero: true,
    };
    let x = Scale::of(&axis, values.iter().map(|parts| parts.iter().sum()), 5);
    let y = Scale::categories("", categories.len());
    let svg = draw(alt, &x, &y, &Frame::below(1), |canvas, chart| {
        for (place, (name, values)) in categories.iter().zip(values).enumerate() {
            let middle = (categories.len() - 1 - place) as f64;
            let (left, at) = chart.plotting_area().map_coordinate(&(x.low, middle));
            let style = text_style(Pos::new(HPos::Right, VPos::Center));
            let left = left - 6 * UNIT as i32;
            canvas.draw(&Text::new(name.clone(), (left, at), style))?;
            let mut start = 0.0;
            for ((_, colour), value) in parts.iter().zip(values) {
                let corners = [(start, middle - 0.3), (start + value, middle + 0.3)];
                chart.draw_series([Rectangle::new(corners, colour.rgb().filled())])?;
                start += value;
            }
        }
        Ok(())
    })?;
    Ok(Plot {
        svg,
        legend: parts.to_vec(),
    })
}

/// An upright line from the lower to the upper end of an interval.
fn upright(
    x: &Scale<'_>,
    y: &Scale<'_>,
    at: f64,
    (low, high): (f64, f64),
    colour: Colour,
) -> PathElement<(f64, f64)> {
    let at = x.place(at);
    // The logarithm of 0 is below every axis.
    let low = if y.shows(low) { y.place(low) } else { y.low };
    PathElement::new(vec![(at, low), (at, y.place(high))], colour.line(1.4))
}

fn text_style(pos: Pos) -> TextStyle<'static> {
    // `plotters` divides by 1.24 what it writes.
    let size = FONT * 1.24 * f64::from(UNIT);
    TextStyle {
        font: ("sans-serif", size).into_font(),
        color: Colour::Ink.rgb().to_backend_color(),
        pos,
    }
}

/// The failure of `plotters`, whose error is none of ours.
type Drawn = std::result::Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// Axes and grid in their frame, and what `body` draws into them.
fn draw(
    alt: &str,
    x: &Scale<'_>,
    y: &Scale<'_>,
    frame: &Frame,
    body: impl FnOnce(&Canvas<'_>, &mut Chart<'_, '_>) -> Drawn,
) -> Result<String> {
    let mut svg = String::new();
    draw_onto(&mut svg, x, y, frame, body).map_err(|error| anyhow!("plot: {error}"))?;
    // The element it writes has a fixed size and no text for those who cannot see it.
    let inner = svg.split_once('>').map_or("", |(_, rest)| rest);
    let (width, height) = (frame.size.0 * UNIT, frame.size.1 * UNIT);
    let view = format!("0 0 {width} {height}");
    let open = html! { svg.plot viewBox=(view) role="img" aria-label=(alt) {} }.into_string();
    let open = open.trim_end_matches("</svg>");
    Ok(format!("{open}{}", inner.trim()))
}

fn draw_onto(
    svg: &mut String,
    x: &Scale<'_>,
    y: &Scale<'_>,
    frame: &Frame,
    body: impl FnOnce(&Canvas<'_>, &mut Chart<'_, '_>) -> Drawn,
) -> Drawn {
    let (width, height) = frame.size;
    let canvas = SVGBackend::with_string(svg, (width * UNIT, height * UNIT)).into_drawing_area();
    let label_line = if x.label.is_empty() { 0 } else { 20 };
    let below = 10 + 16 * frame.lines as u32 + label_line;
    let mut chart = ChartBuilder::on(&canvas)
        .margin_top(20 * UNIT)
        .margin_right(SIDE * UNIT)
        .x_label_area_size(below * UNIT)
        .y_label_area_size(frame.left * UNIT)
        .build_cartesian_2d(x.coordinate(), y.coordinate())?;
    let label = text_style(Pos::new(HPos::Center, VPos::Top));
    chart
        .configure_mesh()
        .label_style(label.clone())
        .axis_style(Colour::Ink.line(1.0))
        .bold_line_style(Colour::Grid.line(1.0))
        .light_line_style(TRANSPARENT)
        .set_all_tick_mark_size(4 * UNIT)
        .x_labels(x.ticks.len().max(1))
        .y_labels(y.ticks.len().max(1))
        .x_label_formatter(&|place| x.tick(*place))
        .y_label_formatter(&|place| y.tick(*place))
        .draw()?;
    let at = ((frame.left + width - SIDE) / 2 * UNIT, (height - 15) * UNIT);
    let at = (at.0 as i32, at.1 as i32);
    canvas.draw(&Text::new(x.label.to_owned(), at, label))?;
    body(&canvas, &mut chart)?;
    canvas.present()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Axis<'static> = Axis {
        label: "updates",
        log: false,
        zero: true,
    };

    #[test]
    fn a_plot_scales_is_named_and_has_no_address() {
        let line = Line {
            name: "a".to_owned(),
            colour: Colour::Merged,
            points: vec![(0.0, 1.0), (1.0, f64::NAN), (2.0, 0.0), (3.0, 2.0)],
            intervals: vec![(0.5, 1.5); 4],
            dots: true,
        };
        for log in [false, true] {
            let y = Axis { log, ..PLAIN };
            let alt = "losses \"<of>\" training";
            let series = std::slice::from_ref(&line);
            let plot = lines(alt, &PLAIN, &y, series, Some((2.0, "best"))).unwrap();
            let open = "<svg class=\"plot\" viewBox=\"0 0 4400 2700\" role=\"img\" \
                        aria-label=\"losses &quot;&lt;of&gt;&quot; training\">";
            assert!(plot.svg.starts_with(open), "{}", &plot.svg[..200]);
            assert!(plot.svg.ends_with("</svg>") && !plot.svg.contains("http"));
            // A logarithmic axis cannot show 0, and nothing can show what is no number.
            let dots = plot.svg.matches("<circle").count();
            assert_eq!(dots, if log { 2 } else { 3 });
            assert!(plot.svg.contains("#008060") && style().contains("[fill=\"#008060\"]"));
        }
    }

    #[test]
    fn categories_parts_and_nothing_at_all() {
        let names = ["1–2\n30".to_owned(), "3 & 4\n2".to_owned()];
        let point = |value| Point {
            value,
            interval: Some((value - 0.1, value + 0.1)),
        };
        let series = Points {
            name: "merged".to_owned(),
            colour: Colour::Merged,
            values: vec![Some(point(0.5)), None],
        };
        let plot = points("alt", "length", &names, &PLAIN, &[series]).unwrap();
        assert_eq!(plot.svg.matches("<circle").count(), 1);
        assert!(plot.svg.contains("3 &amp; 4") && plot.svg.contains("30"));
        let parts = [
            ("a".to_owned(), Colour::Behaviour),
            ("b".to_owned(), Colour::Both),
        ];
        let values = [vec![0.1, 0.2], vec![0.3, 0.0]];
        let plot = stacked("alt", "share", &names, &parts, &values).unwrap();
        assert!(plot.svg.matches("<rect").count() >= 3 && plot.legend.len() == 2);
        assert!(lines("alt", &PLAIN, &PLAIN, &[], None).is_ok());
        assert!(points("alt", "", &[], &PLAIN, &[]).is_ok());
    }
}
