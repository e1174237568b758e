//! Colours: what they stand for, and how they look on a light and on a dark page.

use std::fmt::Write as _;

use plotters::style::{Color as _, RGBColor, ShapeStyle};

use super::UNIT;

/// What a colour stands for, the same in every plot. Light forms are those of Okabe and Ito, or close to them, which
/// people with any colour vision tell apart; all have a contrast of 3 : 1 or more to the page.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Colour {
    /// The merged list, the whole model.
    Merged,
    /// The behaviour stream.
    Behaviour,
    /// The semantic stream.
    Semantic,
    /// Several of the lists that are merged.
    Both,
    /// The list by popularity, and other baselines.
    Popularity,
    /// Published figures.
    Paper,
    /// Anything else, told apart by number: 0, 1, 2 and again.
    Other(usize),
    /// Text and axes.
    Ink,
    /// Lines behind everything.
    Grid,
}

impl Colour {
    /// The direct head.
    pub const DIRECT: Self = Self::Other(0);

    const ALL: [Self; 11] = [
        Self::Merged,
        Self::Behaviour,
        Self::Semantic,
        Self::Both,
        Self::Popularity,
        Self::Paper,
        Self::Other(0),
        Self::Other(1),
        Self::Other(2),
        Self::Ink,
        Self::Grid,
    ];

    /// Name in the style sheet, and what it looks like on a light and on a dark page (0xRRGGBB).
    fn look(self) -> (&'static str, u32, u32) {
        match self {
            Self::Merged => ("merged", 0x00_8060, 0x2E_C79B),
            Self::Behaviour => ("behaviour", 0x00_69B4, 0x5A_B4F0),
            Self::Semantic => ("semantic", 0xC8_5200, 0xF0_9A4A),
            Self::Both => ("both", 0xA0_4F86, 0xDD_9CC6),
            Self::Popularity => ("popularity", 0x76_7A80, 0x9A_A0A8),
            Self::Paper => ("paper", 0x20_2428, 0xE8_EAED),
            Self::Other(n) => match n % 3 {
                0 => ("other0", 0x8A_6D00, 0xD9_BC3A),
                1 => ("other1", 0x6A_4FBF, 0xB0_9CF5),
                _ => ("other2", 0x9B_2C2C, 0xF0_8A8A),
            },
            Self::Ink => ("ink", 0x4B_5158, 0xB4_BAC2),
            Self::Grid => ("grid", 0xDF_E2E6, 0x34_3A42),
        }
    }

    /// Name in the style sheet: a variable `--name`, a class `key-name`.
    #[must_use]
    pub fn class(self) -> &'static str {
        self.look().0
    }

    pub(super) fn rgb(self) -> RGBColor {
        let [_, r, g, b] = self.look().1.to_be_bytes();
        RGBColor(r, g, b)
    }

    /// A line of that width.
    pub(super) fn line(self, pixels: f64) -> ShapeStyle {
        self.rgb().stroke_width((pixels * f64::from(UNIT)) as u32)
    }
}

/// The style sheet's part on colours: variables for both kinds of page, and rules that put them into plots and legends. Text
/// has a rim of the page's own colour, `--page`, which keeps what it lies on from running through it.
#[must_use]
pub fn style() -> String {
    let (mut light, mut dark, mut rules) = (String::new(), String::new(), String::new());
    for (name, on_light, on_dark) in Colour::ALL.map(Colour::look) {
        let _ = write!(light, "--{name}:#{on_light:06X};");
        let _ = write!(dark, "--{name}:#{on_dark:06X};");
        let _ = writeln!(
            rules,
            ".plot [fill=\"#{on_light:06X}\"]{{fill:var(--{name})}}\
             .plot [stroke=\"#{on_light:06X}\"]{{stroke:var(--{name})}}\
             .key-{name}{{background:var(--{name})}}"
        );
    }
    format!(
        ":root{{{light}}}\n@media(prefers-color-scheme:dark){{:root{{{dark}}}}}\n\
         .plot text{{font-family:inherit;paint-order:stroke;stroke:var(--page);stroke-width:{}px;stroke-linejoin:round}}\n{rules}",
        4 * UNIT
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every colour can be told from the page and from the others in the style sheet.
    #[test]
    fn colours_have_contrast() {
        let luminance = |rgb: u32| {
            let [_, r, g, b] = rgb.to_be_bytes();
            let linear = |c: u8| {
                let c = f64::from(c) / 255.0;
                if c <= 0.04045 {
                    c / 12.92
                } else {
                    ((c + 0.055) / 1.055).powf(2.4)
                }
            };
            0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b)
        };
        let contrast = |a: u32, b: u32| {
            let (a, b) = (luminance(a), luminance(b));
            (a.max(b) + 0.05) / (a.min(b) + 0.05)
        };
        for (place, colour) in Colour::ALL.into_iter().enumerate() {
            let (name, light, dark) = colour.look();
            if colour != Colour::Grid {
                let found = (contrast(light, 0xFF_FFFF), contrast(dark, 0x15_181C));
                assert!(found.0 >= 3.0 && found.1 >= 3.0, "{name}: {found:?}");
            }
            for other in &Colour::ALL[..place] {
                assert_ne!(other.look().1, light);
            }
        }
    }
}
