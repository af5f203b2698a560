//! Medians, spreads and ratios: a table for people and JSON for machines.

use serde::Serialize;

/// One measure on both targets.
#[derive(Debug, Serialize)]
pub struct Row {
    /// What was measured.
    pub measure: String,
    /// Its unit.
    pub unit: &'static str,
    /// Direct OpenSSH.
    pub direct: Option<Spread>,
    /// Through Doorward.
    pub doorward: Option<Spread>,
    /// Doorward's median over direct's.
    pub ratio: Option<f64>,
    /// The bound that the ratio (or, without a direct figure, the median) has to keep.
    pub goal: Option<Goal>,
}

/// A bound.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Goal {
    /// Not less than this.
    AtLeast(f64),
    /// Not more than this.
    AtMost(f64),
}

/// Minimum, median and maximum.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Spread {
    /// The least.
    pub min: f64,
    /// The middle.
    pub median: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// Of the samples; `None` where there are none.
    pub fn of(samples: &[f64]) -> Option<Self> {
        Some(Self {
            min: quantile(samples, 0.0)?,
            median: quantile(samples, 0.5)?,
            max: quantile(samples, 1.0)?,
        })
    }
}

/// The `q`-quantile (0 to 1) by nearest rank.
pub fn quantile(samples: &[f64], q: f64) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    sorted.get((last as f64 * q).round() as usize).copied()
}

impl Row {
    /// A row from the samples of both targets.
    pub fn new(
        measure: impl Into<String>,
        unit: &'static str,
        direct: &[f64],
        doorward: &[f64],
        goal: Option<Goal>,
    ) -> Self {
        let (direct, doorward) = (Spread::of(direct), Spread::of(doorward));
        let ratio = direct
            .zip(doorward)
            .filter(|(base, _)| base.median > 0.0)
            .map(|(base, ours)| ours.median / base.median);
        Self {
            measure: measure.into(),
            unit,
            direct,
            doorward,
            ratio,
            goal,
        }
    }

    /// Whether the goal holds; `None` where there is none.
    pub fn holds(&self) -> Option<bool> {
        let value = if self.direct.is_some() {
            self.ratio
        } else {
            self.doorward.map(|spread| spread.median)
        }?;
        Some(match self.goal? {
            Goal::AtLeast(bound) => value >= bound,
            Goal::AtMost(bound) => value <= bound,
        })
    }
}

/// The table, one line per row.
pub fn table(rows: &[Row]) -> String {
    let spread = |spread: Option<Spread>| match spread {
        Some(Spread { min, median, max }) => format!("{median:.2} ({min:.2}–{max:.2})"),
        None => "–".to_owned(),
    };
    let mut text = format!(
        "{:<44} {:<10} {:>26} {:>26} {:>7}  goal\n",
        "measure", "unit", "direct sshd", "doorward", "ratio"
    );
    for row in rows {
        let ratio = row.ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.2}"));
        let goal = match row.goal {
            Some(Goal::AtLeast(bound)) => format!("≥ {bound}"),
            Some(Goal::AtMost(bound)) => format!("≤ {bound}"),
            None => String::new(),
        };
        let verdict = match row.holds() {
            Some(true) => "held",
            Some(false) => "MISSED",
            None => "",
        };
        text += &format!(
            "{:<44} {:<10} {:>26} {:>26} {:>7}  {goal} {verdict}\n",
            row.measure,
            row.unit,
            spread(row.direct),
            spread(row.doorward),
            ratio
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_of_medians_and_judged_by_its_goal() {
        let row = Row::new("x", "ms", &[1.0, 2.0, 9.0], &[3.0, 4.0, 5.0], Some(Goal::AtMost(1.9)));
        assert_eq!(row.ratio, Some(2.0));
        assert_eq!(row.holds(), Some(false));
        assert_eq!(
            Row::new("x", "KiB", &[], &[3.0], Some(Goal::AtMost(3.0))).holds(),
            Some(true)
        );
    }

    #[test]
    fn a_row_without_samples_claims_nothing() {
        let row = Row::new("x", "ms", &[], &[], Some(Goal::AtMost(1.0)));
        assert_eq!((row.ratio, row.holds()), (None, None));
    }
}
