//! Axes: how values become places and places become text.

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

/// How an axis is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Evenly; from 0 when no value is below.
    Linear,
    /// Each decade as long as the next. A value that is not above 0 is drawn at the lower end.
    Log,
    /// For shares from 0 to 1, below 1: as far from 90 % to 99 % as from 99 % to 99.9 %.
    Percentile,
}

/// An axis; the label names the unit.
#[derive(Debug, Clone)]
pub struct Axis {
    /// What is along it, with its unit.
    pub label: String,
    /// How it is divided.
    pub scale: Scale,
}

impl Axis {
    /// An axis with this label and scale.
    pub fn new(label: &str, scale: Scale) -> Self {
        Self {
            label: label.to_owned(),
            scale,
        }
    }
}

/// An axis as it is drawn: places are the values, or their logarithms.
#[derive(Debug, Clone)]
pub(super) struct Range {
    scale: Scale,
    pub(super) low: f64,
    pub(super) high: f64,
    /// Places with a label and a line.
    ticks: Vec<f64>,
}

impl Range {
    /// `None` without a value, or with one that is not finite.
    pub(super) fn of(values: &[f64], scale: Scale) -> Option<Self> {
        if values.is_empty() || values.iter().any(|value| !value.is_finite()) {
            return None;
        }
        let drawable = values.iter().filter(|value| scale != Scale::Log || **value > 0.0);
        let (least, most) = drawable.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| {
            (least.min(*value), most.max(*value))
        });
        Some(match scale {
            Scale::Linear => Self::linear(least.min(0.0), most),
            // All of them 0: one decade, and the line at its foot.
            Scale::Log if least > most => Self::decades(0.0, 1.0, scale),
            Scale::Log => Self::decades(least.log10().floor(), most.log10().ceil(), scale),
            Scale::Percentile => Self::decades(0.0, nines(most), scale),
        })
    }

    /// From top to bottom, so many units of a bar chart's own.
    pub(super) fn downwards(length: f64) -> Self {
        Self {
            scale: Scale::Linear,
            low: length,
            high: 0.0,
            ticks: Vec::new(),
        }
    }

    fn linear(low: f64, most: f64) -> Self {
        let span = (most - low).max(f64::MIN_POSITIVE);
        // Four to ten steps of 1, 2 or 5 times a power of ten.
        let decade = 10_f64.powf((span / 4.0).log10().floor());
        let step = [5.0, 2.0, 1.0]
            .into_iter()
            .map(|times| times * decade)
            .find(|step| span / step >= 4.0)
            .unwrap_or(decade);
        let first = (low / step).floor();
        let count = ((most / step).ceil() - first).max(1.0);
        Self {
            scale: Scale::Linear,
            low: first * step,
            high: (first + count) * step,
            ticks: (0_i32..)
                .map(f64::from)
                .take_while(|nth| *nth <= count)
                .map(|nth| (first + nth) * step)
                .collect(),
        }
    }

    fn decades(low: f64, high: f64, scale: Scale) -> Self {
        let high = high.max(low + 1.0);
        let mut ticks: Vec<f64> = (0_i32..)
            .map(|nth| low + f64::from(nth))
            // A hair: 0.999 has not quite three nines.
            .take_while(|tick| *tick <= high + 1e-6)
            .collect();
        match scale {
            // Few decades: 2 and 5 between them.
            Scale::Log if high - low <= 3.0 => {
                let between = |tick: &f64| [2_f64, 5.0].map(|times| tick + times.log10());
                ticks.extend(ticks.clone().iter().flat_map(between).filter(|tick| *tick < high));
            }
            Scale::Percentile => ticks.push(nines(0.5)),
            _ => {}
        }
        Self {
            scale,
            low,
            high,
            ticks,
        }
    }

    pub(super) fn place(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => value,
            Scale::Log if value <= 0.0 => self.low,
            Scale::Log => value.log10(),
            Scale::Percentile => nines(value),
        }
    }

    /// A place's value as text.
    fn name(&self, place: f64) -> String {
        match self.scale {
            Scale::Linear => number(place),
            Scale::Log => number(10_f64.powf(place)),
            Scale::Percentile => format!("{} %", number(100.0 - 100.0 * 10_f64.powf(-place))),
        }
    }
}

impl Ranged for Range {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, place: &f64, (from, to): (i32, i32)) -> i32 {
        let share = (place - self.low) / (self.high - self.low);
        from + pixels(share * f64::from(to - from))
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.low..self.high
    }
}

impl ValueFormatter<f64> for Range {
    fn format_ext(&self, place: &f64) -> String {
        self.name(*place)
    }
}

pub(super) fn pixels(length: f64) -> i32 {
    // A float that does not fit becomes the nearest integer that does.
    length.round() as i32
}

/// 0.9 is one, 0.99 are two.
fn nines(share: f64) -> f64 {
    -(1.0 - share).max(1e-9).log10()
}

/// As short as it can be said.
fn number(value: f64) -> String {
    let text = format!("{value:.5}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(range: &Range) -> Vec<String> {
        range.ticks.iter().map(|tick| range.name(*tick)).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        let linear = Range::of(&[3.0, 41.0], Scale::Linear).expect("two values");
        assert_eq!(names(&linear), ["0", "10", "20", "30", "40", "50"]);
        let shares = Range::of(&[0.24, 0.31], Scale::Linear).expect("two values");
        assert_eq!(names(&shares)[..3], ["0", "0.05", "0.1"]);
        let log = Range::of(&[0.3, 4000.0], Scale::Log).expect("two values");
        assert_eq!(names(&log), ["0.1", "1", "10", "100", "1000", "10000"]);
        let percentile = Range::of(&[0.0, 0.999], Scale::Percentile).expect("two values");
        assert_eq!(names(&percentile), ["0 %", "90 %", "99 %", "99.9 %", "50 %"]);
    }

    #[test]
    fn zero_has_a_place_on_a_logarithmic_axis() {
        let range = Range::of(&[0.0, 5.0, 50.0], Scale::Log).expect("values");
        assert_eq!((range.low, range.place(0.0)), (0.0, 0.0));
        let only_zero = Range::of(&[0.0], Scale::Log).expect("a value");
        assert_eq!((only_zero.low, only_zero.high), (0.0, 1.0));
    }
}
