//! The figures by which a dataset is known, and their comparison with a manifest's.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Clock, DataError, Dataset, Result};

/// Size and shape of a prepared dataset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statistics {
    /// Users.
    pub users: usize,
    /// Items.
    pub items: usize,
    /// Interactions.
    pub interactions: usize,
    /// Interactions a user.
    pub mean_length: f64,
    /// Interactions / (users · items).
    pub density: f64,
    /// Share of neighbours in a history with the same time, whose order is the tie rule's; `None` without times.
    pub ties: Option<f64>,
}

/// What a manifest expects of the prepared data, exactly.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// Users.
    pub users: usize,
    /// Items.
    pub items: usize,
    /// Interactions.
    pub interactions: usize,
}

impl Statistics {
    /// Counts a dataset.
    #[must_use]
    pub fn of(dataset: &Dataset) -> Self {
        let log = &dataset.interactions;
        let (users, items, interactions) = (log.n_users(), log.n_items(), log.len());
        let (mut pairs, mut equal) = (0usize, 0usize);
        for user in 0..users {
            for pair in dataset.times[log.range(user)].windows(2) {
                pairs += 1;
                equal += usize::from(pair[0] == pair[1]);
            }
        }
        Self {
            users,
            items,
            interactions,
            mean_length: interactions as f64 / users as f64,
            density: interactions as f64 / (users as f64 * items as f64),
            ties: (dataset.clock != Clock::Rank).then(|| equal as f64 / (pairs as f64).max(1.0)),
        }
    }

    /// Compares with a manifest's figures.
    ///
    /// # Errors
    /// When one differs, with both side by side.
    pub fn check(&self, dataset: &str, expected: &Expected) -> Result<()> {
        let found = Expected {
            users: self.users,
            items: self.items,
            interactions: self.interactions,
        };
        if found == *expected {
            return Ok(());
        }
        Err(DataError::Statistics {
            dataset: dataset.to_owned(),
            table: self.table(Some(expected)),
        })
    }

    /// The figures as an aligned table, with those of the manifest beside them where given.
    #[must_use]
    pub fn table(&self, expected: Option<&Expected>) -> String {
        let counts = [
            ("users", self.users, expected.map(|e| e.users)),
            ("items", self.items, expected.map(|e| e.items)),
            (
                "interactions",
                self.interactions,
                expected.map(|e| e.interactions),
            ),
        ];
        let mut lines: Vec<String> = Vec::new();
        for (name, found, expected) in counts {
            let mut line = format!("{name:<13}{:>12}", thousands(found));
            if let Some(expected) = expected {
                let mark = if found == expected { "" } else { "   differs" };
                line.push_str(&format!("{:>12}{mark}", thousands(expected)));
            }
            lines.push(line);
        }
        lines.push(format!("{:<13}{:>12.2}", "mean length", self.mean_length));
        lines.push(format!("{:<13}{:>11.4}%", "density", 100.0 * self.density));
        lines.push(match self.ties {
            Some(ties) => format!("{:<13}{:>11.1}%", "ties", 100.0 * ties),
            None => format!("{:<13}{:>12}", "ties", "no times"),
        });
        lines.join("\n")
    }
}

impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.table(None))
    }
}

/// `1234567` as `1,234,567`.
#[must_use]
pub fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number with what it counts: `1 item`, `2 items`.
#[must_use]
pub fn counted(number: impl fmt::Display, one: &str) -> String {
    let number = number.to_string();
    let s = if number == "1" { "" } else { "s" };
    format!("{number} {one}{s}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_no_plural() {
        let said = [0, 1, 1_000].map(|n| counted(thousands(n), "item"));
        assert_eq!(said, ["0 items", "1 item", "1,000 items"]);
    }

    fn statistics() -> Statistics {
        Statistics {
            users: 22_363,
            items: 12_101,
            interactions: 198_502,
            mean_length: 8.876,
            density: 0.000_734,
            ties: None,
        }
    }

    #[test]
    fn the_table_reads() {
        let expected = Expected {
            users: 22_363,
            items: 12_102,
            interactions: 198_502,
        };
        assert_eq!(
            statistics().table(Some(&expected)),
            "users              22,363      22,363\n\
             items              12,101      12,102   differs\n\
             interactions      198,502     198,502\n\
             mean length          8.88\n\
             density           0.0734%\n\
             ties             no times"
        );
        assert_eq!(
            [0, 12, 123, 1_234, 1_234_567].map(thousands),
            ["0", "12", "123", "1,234", "1,234,567"]
        );
    }

    #[test]
    fn a_difference_is_an_error_with_both_figures() {
        let good = Expected {
            users: 22_363,
            items: 12_101,
            interactions: 198_502,
        };
        assert!(statistics().check("x", &good).is_ok());
        let message = statistics()
            .check("x", &Expected { users: 1, ..good })
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("`x`") && message.contains("22,363           1   differs"),
            "{message}"
        );
    }
}
