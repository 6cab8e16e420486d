//! A section of the report, as Markdown, and its plots.

use std::path::Path;

use anyhow::Context as _;
use reuse_tests::plot::{Axis, LinePlot, Scale, Series};

/// What a scenario has to say.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) text: String,
    plots: Vec<(String, LinePlot)>,
}

impl Section {
    /// A section with this heading, and what was expected before the first run.
    pub(crate) fn new(title: &str, predicted: &str) -> Self {
        Self {
            text: format!("## {title}\n\n*Predicted:* {predicted}\n"),
            plots: Vec::new(),
        }
    }

    /// A paragraph.
    pub(crate) fn say(&mut self, text: &str) {
        self.text.push('\n');
        self.text.push_str(text);
        self.text.push('\n');
    }

    /// A table.
    pub(crate) fn table(&mut self, header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
        self.text.push('\n');
        self.row(header.iter().map(|&cell| cell.to_owned()).collect());
        self.row(vec!["---".to_owned(); header.len()]);
        for row in rows {
            self.row(row);
        }
    }

    fn row(&mut self, cells: Vec<String>) {
        self.text.push('|');
        for cell in cells {
            self.text.push_str(&format!(" {cell} |"));
        }
        self.text.push('\n');
    }

    /// A plot, in a file of this name.
    pub(crate) fn plot(&mut self, name: &str, title: &str, axes: (Axis, Axis), lines: Vec<Series>) {
        self.say(&format!("![{title}]({name}.svg)"));
        let (x, y) = axes;
        let plot = LinePlot {
            title: title.to_owned(),
            x,
            y,
            lines,
            marks: Vec::new(),
        };
        self.plots.push((format!("{name}.svg"), plot));
    }

    /// Writes the plots into this folder.
    ///
    /// # Errors
    /// When a plot can't be drawn or written.
    pub(crate) fn write_plots(&self, folder: &Path) -> anyhow::Result<()> {
        for (file, plot) in &self.plots {
            plot.write(&folder.join(file)).with_context(|| format!("plot {file}"))?;
        }
        Ok(())
    }
}

/// A series of a plot.
pub(crate) fn line(name: &str, points: Vec<(f64, f64)>) -> Series {
    Series {
        name: name.replace('`', ""),
        points,
    }
}

/// An axis in decades.
pub(crate) fn log(label: &str) -> Axis {
    Axis::new(label, Scale::Log)
}

/// An even axis.
pub(crate) fn linear(label: &str) -> Axis {
    Axis::new(label, Scale::Linear)
}
