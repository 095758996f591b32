//! The picture of throughput and latency over load.

use std::path::Path;

use plotters::prelude::*;

use crate::Outcome;

/// What became of one load.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Uploads in a second that were asked for.
    pub offered: f64,
    /// And that were done.
    pub done: f64,
    /// Of their latency, in milliseconds.
    pub p50: f64,
    pub p99: f64,
}

pub struct Picture {
    pub steps: Vec<Step>,
}

impl Picture {
    /// Writes it as SVG.
    pub fn write(&self, path: &Path) -> Outcome<()> {
        let most = self.steps.iter().map(|step| step.offered).fold(1.0, f64::max);
        let root = SVGBackend::new(path, (760, 720)).into_drawing_area();
        root.fill(&WHITE)?;
        let (above, below) = root.split_vertically(330);

        let mut chart = ChartBuilder::on(&above)
            .caption("Uploads: throughput and latency over offered load", ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(42)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..most, 0.0..most)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .x_desc("offered load (uploads/s)")
            .y_desc("throughput (uploads/s)")
            .x_label_formatter(&|load| format!("{load:.0}"))
            .y_label_formatter(&|done| format!("{done:.0}"))
            .draw()?;
        chart.draw_series(LineSeries::new([(0.0, 0.0), (most, most)], BLACK.mix(0.3)))?;
        chart.draw_series(LineSeries::new(self.line(|step| step.done), BLUE.stroke_width(2)))?;

        let least = self.steps.iter().map(|step| step.p50).fold(f64::INFINITY, f64::min);
        let slowest = self.steps.iter().map(|step| step.p99).fold(1.0, f64::max);
        let mut chart = ChartBuilder::on(&below)
            .margin(12)
            .x_label_area_size(42)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..most, (least / 2.0..slowest * 2.0).log_scale())?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .x_desc("offered load (uploads/s)")
            .y_desc("latency (ms, logarithmic)")
            .x_label_formatter(&|load| format!("{load:.0}"))
            .y_label_formatter(&|ms| format!("{ms}"))
            .draw()?;
        let lines = [
            ("p50", BLUE, self.line(|step| step.p50)),
            ("p99", RED, self.line(|step| step.p99)),
        ];
        for (name, colour, points) in lines {
            chart
                .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
                .label(name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.3))
            .draw()?;
        root.present()?;
        Ok(())
    }

    fn line(&self, value: impl Fn(&Step) -> f64) -> Vec<(f64, f64)> {
        self.steps.iter().map(|step| (step.offered, value(step))).collect()
    }
}
