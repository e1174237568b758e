//! Axes: their ends, their ticks, and the place of a value on them.

use std::ops::Range;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};

/// An axis of numbers.
#[derive(Clone, Debug)]
pub struct Axis<'a> {
    /// What is counted, with its unit; drawn below the horizontal axis.
    pub label: &'a str,
    /// Logarithmic.
    pub log: bool,
    /// Whether it goes down to 0, when it is not logarithmic.
    pub zero: bool,
}

/// An axis with its ends: values are drawn at their logarithm or as they are.
pub(super) struct Scale<'a> {
    pub label: &'a str,
    log: bool,
    pub low: f64,
    pub high: f64,
    pub ticks: Vec<f64>,
    /// Decimals of the ticks of an axis that is not logarithmic.
    decimals: usize,
}

impl<'a> Scale<'a> {
    /// Holds all values and a margin.
    pub fn of(axis: &Axis<'a>, values: impl Iterator<Item = f64>, about: usize) -> Self {
        let place = |v: f64| if axis.log { v.log10() } else { v };
        let (mut low, mut high) = values
            .map(place)
            .filter(|v| v.is_finite())
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| {
                (low.min(v), high.max(v))
            });
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        if axis.zero && !axis.log {
            low = low.min(0.0);
            high = high.max(0.0);
        }
        if high - low < 1e-12 {
            (low, high) = match low {
                0.0 => (0.0, 1.0),
                _ => (low - 0.1 * low.abs(), high + 0.1 * high.abs()),
            };
        }
        let margin = 0.05 * (high - low);
        if !(axis.zero && low == 0.0) {
            low -= margin;
        }
        high += margin;
        let ticks = ticks(low, high, axis.log, about);
        Self {
            label: axis.label,
            log: axis.log,
            low,
            high,
            decimals: ticks.iter().map(|&tick| decimals(tick)).max().unwrap_or(0),
            ticks,
        }
    }

    /// For categories `0..n`, with half a place on each side.
    pub fn categories(label: &'a str, n: usize) -> Self {
        Self {
            label,
            log: false,
            low: -0.5,
            high: n as f64 - 0.5,
            ticks: vec![],
            decimals: 0,
        }
    }

    /// Where a value is between the ends, kept inside them.
    pub fn place(&self, value: f64) -> f64 {
        let place = if self.log { value.log10() } else { value };
        place.clamp(self.low, self.high)
    }

    /// Whether there is a place for it.
    pub fn shows(&self, value: f64) -> bool {
        value.is_finite() && (!self.log || value > 0.0)
    }

    pub fn coordinate(&self) -> Coordinate {
        Coordinate {
            ends: self.low..self.high,
            ticks: self.ticks.clone(),
        }
    }

    /// Text of a tick.
    pub fn tick(&self, place: f64) -> String {
        if self.log {
            let value = 10f64.powf(place);
            number(value, decimals(value))
        } else {
            number(place, self.decimals)
        }
    }
}

/// What `plotters` knows of a scale: its ends and where its ticks are.
pub(super) struct Coordinate {
    ends: Range<f64>,
    ticks: Vec<f64>,
}

impl Ranged for Coordinate {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let share = (value - self.ends.start) / (self.ends.end - self.ends.start);
        limit.0 + (share * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        // Asked for twice: for the lines with labels and for the fine ones between, of which there are none.
        if hint.weight().allow_light_points() {
            vec![]
        } else {
            self.ticks.clone()
        }
    }

    fn range(&self) -> Range<f64> {
        self.ends.clone()
    }
}

/// Round places between two ends: multiples of 1, 2 or 5 times a power of ten, or of a logarithmic axis' powers of ten (if
/// that is less than two, 1, 2 and 5 times them).
fn ticks(low: f64, high: f64, log: bool, about: usize) -> Vec<f64> {
    if log {
        let (first, last) = (low.floor() as i32, high.ceil() as i32);
        let powers = |factors: &[f64]| -> Vec<f64> {
            let all = (first..=last).flat_map(|power| {
                let of = move |factor: &f64| f64::from(power) + factor.log10();
                factors.iter().map(of).collect::<Vec<f64>>()
            });
            all.filter(|t| (low..=high).contains(t)).collect()
        };
        let tens = powers(&[1.0]);
        return match tens.len() {
            0 | 1 => powers(&[1.0, 2.0, 5.0]),
            n => tens.into_iter().step_by(n.div_ceil(7)).collect(),
        };
    }
    let rough = (high - low) / about as f64;
    let power = 10f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|f| f * power >= rough);
    let step = factor.unwrap_or(10.0) * power;
    let (first, last) = ((low / step).ceil() as i64, (high / step).floor() as i64);
    (first..=last).map(|n| n as f64 * step).collect()
}

/// Decimals that a round number needs, up to four.
fn decimals(value: f64) -> usize {
    let whole = |decimals: &usize| {
        let scaled = value * 10f64.powi(*decimals as i32);
        (scaled - scaled.round()).abs() < 1e-6 * scaled.abs().max(1e-6)
    };
    (0..4).find(whole).unwrap_or(4)
}

/// A round number, short: `0.05`, `6,000`, `1e-5`.
fn number(value: f64, decimals: usize) -> String {
    let size = value.abs();
    match size {
        0.0 => "0".to_owned(),
        _ if !(0.999e-4..1e6).contains(&size) => format!("{value:.0e}"),
        _ if size >= 1000.0 && value > 0.0 => crate::html::count(value.round() as u64),
        _ => format!("{value:.decimals$}"),
    }
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
    fn ticks_are_round_and_inside() {
        assert_eq!(ticks(0.0, 6300.0, false, 5), [0.0, 2000.0, 4000.0, 6000.0]);
        let shown = |low, high, log| {
            let axis = Axis { log, ..PLAIN };
            let scale = Scale::of(&axis, [low, high].into_iter(), 5);
            let ticks = scale.ticks.iter().map(|tick| scale.tick(*tick));
            ticks.collect::<Vec<String>>()
        };
        assert_eq!(shown(0.0, 0.11, false), ["0", "0.05", "0.10"]);
        assert_eq!(shown(0.0, 1e-3, false)[1], "0.0005");
        assert_eq!(shown(0.0, 5e4, false)[1], "20,000");
        assert_eq!(
            shown(2e-6, 0.1, true),
            ["1e-5", "0.0001", "0.001", "0.01", "0.1"]
        );
        assert_eq!(shown(1.2, 9.0, true), ["2", "5"]);
        assert_eq!(ticks(-4.2, 0.1, true, 5), [-4.0, -3.0, -2.0, -1.0, 0.0]);
        assert_eq!(ticks(-30.0, 0.0, true, 5).len(), 7);
    }
}
