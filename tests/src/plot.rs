//! Plots for the reports, as SVG: lines over linear, logarithmic and percentile axes (a time series is one of these), and grouped bars.
//!
//! An SVG names its font and carries its text, so no font of this machine is read, and the same numbers give the same bytes. Every
//! plot is as wide as the text of a rendered Markdown page and has a white ground of its own, so that it can be read on a dark page.

mod axis;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

pub use axis::{Axis, Scale};
use axis::{Range, pixels};

/// Pixels.
const WIDTH: u32 = 960;
const HEIGHT: u32 = 440;
const LEGEND_WIDTH: u32 = 210;
const LEGEND_ROW: i32 = 21;
const DASH: i32 = 8;
const DASH_GAP: i32 = 4;
const BAR: f64 = 8.0;
const BAR_GAP: f64 = 10.0;

/// Told apart by most colour-blind people too (Okabe and Ito), the darker ones first; after eight it begins again, with dashes.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(0, 0, 0),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(150, 140, 40),
];

/// Why there is no plot.
#[derive(Debug, thiserror::Error)]
pub enum PlotError {
    /// A point that is not a number, or nothing to draw: the message says which plot.
    #[error("the plot {title:?} has nothing to draw, or a value that is not a number")]
    Nothing {
        /// The plot's title.
        title: String,
    },
    /// The drawing itself failed.
    #[error("the plot {title:?}: {reason}")]
    Draw {
        /// The plot's title.
        title: String,
        /// What the library says.
        reason: String,
    },
    /// The file can't be written.
    #[error("could not write {}", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// One named series.
#[derive(Debug, Clone)]
pub struct Series {
    /// As it stands in the legend.
    pub name: String,
    /// Joined in this order.
    pub points: Vec<(f64, f64)>,
}

/// Several series over the same axes.
#[derive(Debug, Clone)]
pub struct LinePlot {
    /// Above the plot.
    pub title: String,
    /// To the right.
    pub x: Axis,
    /// Upwards.
    pub y: Axis,
    /// In the order of the legend.
    pub lines: Vec<Series>,
    /// Moments: a vertical line at x, with its name.
    pub marks: Vec<(f64, String)>,
}

/// Groups of horizontal bars.
#[derive(Debug, Clone)]
pub struct BarPlot {
    /// Above the plot.
    pub title: String,
    /// What the length of a bar is, with its unit.
    pub label: String,
    /// From top to bottom.
    pub groups: Vec<BarGroup>,
    /// A value that bars are compared with: a vertical line.
    pub reference: Option<f64>,
}

/// What belongs together.
#[derive(Debug, Clone)]
pub struct BarGroup {
    /// To the left of its bars.
    pub name: String,
    /// One bar each; the n-th has the same colour in every group.
    pub values: Vec<f64>,
}

impl LinePlot {
    /// Writes the SVG.
    ///
    /// # Errors
    /// When there is no point at all, one is not finite, or the file can't be written.
    pub fn write(&self, path: &Path) -> Result<(), PlotError> {
        write(path, &self.svg()?)
    }

    /// The SVG.
    ///
    /// # Errors
    /// When there is no point at all, or one is not finite.
    pub fn svg(&self) -> Result<String, PlotError> {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let along = |values: Vec<f64>, scale| Range::of(&values, scale).ok_or_else(|| nothing(&self.title));
        let marked = self.marks.iter().map(|(at, _)| *at);
        let x = along(points().map(|point| point.0).chain(marked).collect(), self.x.scale)?;
        let y = along(points().map(|point| point.1).collect(), self.y.scale)?;
        let mut svg = String::new();
        self.draw(&mut svg, &x, &y).map_err(|error| PlotError::Draw {
            title: self.title.clone(),
            reason: error.to_string(),
        })?;
        Ok(svg)
    }

    fn draw(&self, svg: &mut String, x: &Range, y: &Range) -> Result<(), Box<dyn std::error::Error>> {
        let root = SVGBackend::with_string(svg, (WIDTH, HEIGHT)).into_drawing_area();
        root.fill(&WHITE)?;
        let (area, legend) = root.split_horizontally(WIDTH - LEGEND_WIDTH);
        let mut chart = ChartBuilder::on(&area)
            .caption(&self.title, ("sans-serif", 18))
            .margin(10)
            .x_label_area_size(44)
            .y_label_area_size(62)
            .build_cartesian_2d(x.clone(), y.clone())?;
        chart
            .configure_mesh()
            .bold_line_style(BLACK.mix(0.15))
            .light_line_style(TRANSPARENT)
            .label_style(("sans-serif", 13))
            .axis_desc_style(("sans-serif", 14))
            .x_desc(&self.x.label)
            .y_desc(&self.y.label)
            .draw()?;
        for (at, name) in &self.marks {
            let at = x.place(*at);
            let style = BLACK.mix(0.6).stroke_width(1);
            chart.draw_series([PathElement::new(vec![(at, y.low), (at, y.high)], style)])?;
            let text = ("sans-serif", 12).into_font().color(&BLACK.mix(0.8));
            chart.draw_series([Text::new(format!(" {name}"), (at, y.high), text)])?;
        }
        for (nth, line) in self.lines.iter().enumerate() {
            let placed = line.points.iter().map(|point| (x.place(point.0), y.place(point.1)));
            if nth < COLOURS.len() {
                chart.draw_series(LineSeries::new(placed, stroke(nth)))?;
            } else {
                chart.draw_series(DashedLineSeries::new(placed, DASH, DASH_GAP, stroke(nth)))?;
            }
        }
        for (nth, line) in self.lines.iter().enumerate() {
            draw_legend(&legend, nth, &line.name)?;
        }
        root.present()?;
        Ok(())
    }
}

impl BarPlot {
    /// Writes the SVG.
    ///
    /// # Errors
    /// When there is no bar at all, one is not finite, or the file can't be written.
    pub fn write(&self, path: &Path) -> Result<(), PlotError> {
        write(path, &self.svg()?)
    }

    /// The SVG.
    ///
    /// # Errors
    /// When there is no bar at all, or one is not finite.
    pub fn svg(&self) -> Result<String, PlotError> {
        let bars = self.groups.iter().flat_map(|group| &group.values).copied();
        let values: Vec<f64> = bars.chain(self.reference).collect();
        let x = Range::of(&values, Scale::Linear).ok_or_else(|| nothing(&self.title))?;
        let mut svg = String::new();
        self.draw(&mut svg, &x).map_err(|error| PlotError::Draw {
            title: self.title.clone(),
            reason: error.to_string(),
        })?;
        Ok(svg)
    }

    fn draw(&self, svg: &mut String, x: &Range) -> Result<(), Box<dyn std::error::Error>> {
        let length = |group: &BarGroup| BAR * group.values.len() as f64;
        let rows = Range::downwards(self.groups.iter().map(|group| length(group) + BAR_GAP).sum());
        // The title, the axis and the margins.
        let height = pixels(rows.low).unsigned_abs() + 100;
        let root = SVGBackend::with_string(svg, (WIDTH, height)).into_drawing_area();
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&root)
            .caption(&self.title, ("sans-serif", 18))
            .margin(10)
            .margin_right(40)
            .x_label_area_size(44)
            .y_label_area_size(LEGEND_WIDTH)
            .build_cartesian_2d(x.clone(), rows.clone())?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .y_labels(0)
            .bold_line_style(BLACK.mix(0.15))
            .light_line_style(TRANSPARENT)
            .label_style(("sans-serif", 13))
            .axis_desc_style(("sans-serif", 14))
            .x_desc(&self.label)
            .draw()?;
        let anchor = Pos::new(HPos::Right, VPos::Center);
        let style = ("sans-serif", 13).into_font().color(&BLACK).pos(anchor);
        let mut top = BAR_GAP / 2.0;
        for group in &self.groups {
            for (nth, value) in group.values.iter().enumerate() {
                let from = top + BAR * nth as f64;
                let bar = [(x.place(0.0).max(x.low), from), (x.place(*value), from + BAR - 1.0)];
                chart.draw_series([Rectangle::new(bar, COLOURS[nth % COLOURS.len()].filled())])?;
            }
            let (left, middle) = chart.backend_coord(&(x.low, top + length(group) / 2.0));
            root.draw_text(&group.name, &style, (left - 8, middle))?;
            top += length(group) + BAR_GAP;
        }
        if let Some(reference) = self.reference {
            let at = x.place(reference);
            chart.draw_series([PathElement::new(vec![(at, rows.low), (at, rows.high)], BLACK.mix(0.6))])?;
        }
        root.present()?;
        Ok(())
    }
}

fn stroke(nth: usize) -> ShapeStyle {
    COLOURS[nth % COLOURS.len()].stroke_width(2)
}

fn draw_legend(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    nth: usize,
    name: &str,
) -> Result<(), Box<dyn std::error::Error>> {
    let row = 50 + LEGEND_ROW * i32::try_from(nth)?;
    let ends: &[(i32, i32)] = if nth < COLOURS.len() {
        &[(4, 24)]
    } else {
        &[(4, 12), (16, 24)]
    };
    for (from, to) in ends {
        area.draw(&PathElement::new(vec![(*from, row), (*to, row)], stroke(nth)))?;
    }
    let anchor = Pos::new(HPos::Left, VPos::Center);
    let style = ("sans-serif", 13).into_font().color(&BLACK).pos(anchor);
    area.draw_text(name, &style, (30, row))?;
    Ok(())
}

fn nothing(title: &str) -> PlotError {
    PlotError::Nothing {
        title: title.to_owned(),
    }
}

fn write(path: &Path, svg: &str) -> Result<(), PlotError> {
    fs::write(path, svg).map_err(|source| PlotError::Write {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_carries_its_words_and_a_line_per_series() {
        let line = |name: &str| Series {
            name: name.to_owned(),
            points: vec![(0.5, 1.0), (0.99, 80.0)],
        };
        let svg = LinePlot {
            title: "Waiting".to_owned(),
            x: Axis::new("share of requests", Scale::Percentile),
            y: Axis::new("latency, ms", Scale::Log),
            lines: vec![line("plain"), line("steered")],
            marks: vec![(0.9, "here".to_owned())],
        }
        .svg()
        .expect("it can be drawn");
        for word in ["Waiting", "latency, ms", "steered", "99 %", "here"] {
            assert!(svg.contains(word), "{word} is missing in {svg}");
        }
        assert!(svg.contains("#0072B2") && svg.contains("#D55E00"));
    }

    #[test]
    fn bars_need_a_number() {
        let plot = |values| BarPlot {
            title: "Share".to_owned(),
            label: "%".to_owned(),
            groups: vec![BarGroup {
                name: "plain".to_owned(),
                values,
            }],
            reference: Some(25.0),
        };
        assert!(plot(vec![20.0, 30.0]).svg().is_ok());
        assert!(matches!(plot(vec![f64::NAN]).svg(), Err(PlotError::Nothing { .. })));
    }
}
