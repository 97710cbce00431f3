//! An outcome as one HTML file with plots in SVG, without references to other files.

use std::fmt::Write;

use plotters::prelude::*;

use super::outcome::{AtLoad, Outcome};
use super::table;
use crate::rate::Short;
use crate::trial::Trial;

const SIZE: (u32, u32) = (860, 400);
const COLORS: [RGBColor; 6] = [
    RGBColor(0x1f, 0x77, 0xb4),
    RGBColor(0xd6, 0x27, 0x28),
    RGBColor(0x2c, 0xa0, 0x2c),
    RGBColor(0x94, 0x67, 0xbd),
    RGBColor(0xff, 0x7f, 0x0e),
    RGBColor(0x17, 0xbe, 0xcf),
];

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn failed<E: std::fmt::Display>(error: E) -> String {
    format!("cannot draw the plot: {error}")
}

/// The whole file.
///
/// # Errors
/// A plot cannot be drawn.
pub fn page(outcome: &Outcome) -> Result<String, String> {
    let mut body = String::new();
    for (title, plot) in [
        ("Loss over load", loss(outcome)?),
        ("Trials in their order", trials(outcome)?),
        ("Latency by percentile", latency(&outcome.latency)?),
    ] {
        if let Some(svg) = plot {
            let _ = write!(body, "<h2>{title}</h2>\n<figure>{svg}</figure>\n");
        }
    }
    // Long lines, which a table's block would hide.
    let note = |warning: &String| format!("<p>Note: {}</p>\n", escaped(warning));
    let notes: String = outcome.warnings.iter().map(note).collect();
    let name = serde_json::to_value(outcome.test)
        .ok()
        .and_then(|name| name.as_str().map(str::to_owned))
        .unwrap_or_default();
    Ok(format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>fibcast-pktgen: {name}</title>\n<style>\n\
         body {{ font: 16px/1.45 system-ui, sans-serif; max-width: 900px; margin: 2em auto; padding: 0 1em; color: #222; }}\n\
         pre {{ background: #f6f6f4; padding: 1em; overflow-x: auto; font-size: 13px; }}\nfigure {{ margin: 0; }}\n\
         h1 {{ font-size: 1.5em; }} h2 {{ font-size: 1.15em; margin-top: 2em; }}\n</style></head><body>\n\
         <h1>{name}</h1>\n<pre>{}</pre>\n{notes}{body}</body></html>\n",
        escaped(&table::tables(outcome))
    ))
}

/// Loss ratio of all trials by their loads.
fn loss(outcome: &Outcome) -> Result<Option<String>, String> {
    // By what was offered: what was only intended says nothing about the device.
    let mut points: Vec<(f64, f64)> =
        outcome.trials.iter().map(|trial| (trial.offered_pps, trial.loss_of_offered() * 100.0)).collect();
    if points.is_empty() || outcome.back_to_back.is_some() {
        return Ok(None);
    }
    points.sort_by(|one, other| one.0.total_cmp(&other.0));
    let right = points.iter().map(|point| point.0).fold(0.0, f64::max) * 1.05;
    let top = (points.iter().map(|point| point.1).fold(0.0, f64::max) * 1.1).max(0.1);
    // The mean of the trials of about the same load.
    let line: Vec<(f64, f64)> = points
        .chunk_by(|one, other| other.0 - one.0 < right / 400.0)
        .map(|same| {
            let mean = |of: fn(&(f64, f64)) -> f64| same.iter().map(of).sum::<f64>() / same.len() as f64;
            (mean(|point| point.0), mean(|point| point.1))
        })
        .collect();
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = chart(&area, (0.0, right), (0.0, top))?;
        let label = |pps: &f64| Short(*pps).to_string();
        let percent = |value: &f64| format!("{value:.2}");
        chart
            .configure_mesh()
            .x_desc("offered load, packets/s")
            .y_desc("loss, %")
            .x_label_formatter(&label)
            .y_label_formatter(&percent)
            .light_line_style(WHITE)
            .draw()
            .map_err(failed)?;
        let [first, second, third, ..] = COLORS;
        chart.draw_series(LineSeries::new(line, first.stroke_width(2))).map_err(failed)?;
        chart
            .draw_series(points.iter().map(|&point| Circle::new(point, 3, first.filled())))
            .map_err(failed)?;
        for (found, color) in outcome.results.iter().zip([second, third]) {
            let Some(pps) = found.pps else { continue };
            let name = format!("{}: {}pps", found.name, Short(pps));
            chart
                .draw_series(LineSeries::new([(pps, 0.0), (pps, top)], color.stroke_width(2)))
                .map_err(failed)?
                .label(name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
        }
        if outcome.results.iter().any(|found| found.pps.is_some()) {
            legend(&mut chart, SeriesLabelPosition::UpperLeft)?;
        }
        area.present().map_err(failed)?;
    }
    Ok(Some(svg))
}

/// The loads of a search, as it went.
fn trials(outcome: &Outcome) -> Result<Option<String>, String> {
    if outcome.trials.len() < 2 || outcome.back_to_back.is_some() {
        return Ok(None);
    }
    let top = outcome.trials.iter().map(|trial| trial.intended_pps).fold(0.0, f64::max) * 1.08;
    let right = outcome.trials.len() as f64 + 1.0;
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = chart(&area, (0.0, right), (0.0, top))?;
        let label = |pps: &f64| Short(*pps).to_string();
        let number = |value: &f64| format!("{value:.0}");
        chart
            .configure_mesh()
            .x_desc("trial")
            .y_desc("intended load, packets/s")
            .y_label_formatter(&label)
            .x_label_formatter(&number)
            .light_line_style(WHITE)
            .draw()
            .map_err(failed)?;
        let kind = |trial: &Trial| match (trial.not_offered().is_some(), trial.offered == trial.forwarded) {
            (true, _) => 2,
            (false, clean) => u8::from(!clean),
        };
        let grey = RGBColor(0x99, 0x99, 0x99);
        for (wanted, words, color) in
            [(0, "without loss", COLORS[2]), (1, "with loss", COLORS[1]), (2, "load was not offered", grey)]
        {
            let points = (1..).zip(&outcome.trials).filter(|(_, trial)| kind(trial) == wanted);
            chart
                .draw_series(
                    points.map(|(at, trial)| {
                        Circle::new((f64::from(at), trial.intended_pps), 4, color.filled())
                    }),
                )
                .map_err(failed)?
                .label(words)
                .legend(move |(x, y)| Circle::new((x + 9, y), 4, color.filled()));
        }
        legend(&mut chart, SeriesLabelPosition::LowerRight)?;
        area.present().map_err(failed)?;
    }
    Ok(Some(svg))
}

/// Percentiles on the scale of HDR histograms: each nine of the percentile takes the same room.
fn latency(rows: &[AtLoad]) -> Result<Option<String>, String> {
    let nines = |quantile: f64| -(1.0 - quantile).max(1e-5).log10();
    let curves: Vec<(String, Vec<(f64, f64)>)> = rows
        .iter()
        .filter(|row| !row.curve.is_empty())
        .map(|row| {
            (
                row.name.clone(),
                row.curve.iter().map(|&(quantile, us)| (nines(quantile), us.max(0.01))).collect(),
            )
        })
        .collect();
    let values = || curves.iter().flat_map(|(_, curve)| curve).map(|point| point.1);
    let (low, high) = (values().fold(f64::INFINITY, f64::min) * 0.8, values().fold(0.0, f64::max) * 1.25);
    if curves.is_empty() || !low.is_finite() || low >= high {
        return Ok(None);
    }
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(failed)?;
        let mut chart = ChartBuilder::on(&area)
            .margin(12)
            .margin_right(30)
            .x_label_area_size(46)
            .y_label_area_size(76)
            .build_cartesian_2d(0.0..5.0, (low..high).log_scale())
            .map_err(failed)?;
        let percentile = |value: &f64| {
            let percent = 100.0 - 100.0 * 10_f64.powf(-value);
            format!("{percent:.3}").trim_end_matches('0').trim_end_matches('.').to_owned()
        };
        let us = |value: &f64| if *value < 10.0 { format!("{value:.1}") } else { format!("{value:.0}") };
        chart
            .configure_mesh()
            .x_desc("percentile")
            .y_desc("latency, us")
            .x_labels(6)
            .x_label_formatter(&percentile)
            .y_label_formatter(&us)
            .light_line_style(WHITE)
            .draw()
            .map_err(failed)?;
        for ((name, curve), color) in curves.into_iter().zip(COLORS.into_iter().cycle()) {
            chart
                .draw_series(LineSeries::new(curve, color.stroke_width(2)))
                .map_err(failed)?
                .label(name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.85))
            .border_style(RGBColor(0xcc, 0xcc, 0xcc))
            .label_font(("sans-serif", 14))
            .draw()
            .map_err(failed)?;
        area.present().map_err(failed)?;
    }
    Ok(Some(svg))
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Plot<'a, 'b> = ChartContext<
    'b,
    SVGBackend<'a>,
    Cartesian2d<plotters::coord::types::RangedCoordf64, plotters::coord::types::RangedCoordf64>,
>;

fn chart<'a, 'b>(area: &'b Area<'a>, x: (f64, f64), y: (f64, f64)) -> Result<Plot<'a, 'b>, String> {
    area.fill(&WHITE).map_err(failed)?;
    ChartBuilder::on(area)
        .margin(12)
        .margin_right(30)
        .x_label_area_size(46)
        .y_label_area_size(76)
        .build_cartesian_2d(x.0..x.1, y.0..y.1)
        .map_err(failed)
}

fn legend<'a: 'b, 'b>(chart: &mut Plot<'a, 'b>, at: SeriesLabelPosition) -> Result<(), String> {
    chart
        .configure_series_labels()
        .position(at)
        .background_style(WHITE.mix(0.85))
        .border_style(RGBColor(0xcc, 0xcc, 0xcc))
        .label_font(("sans-serif", 14))
        .draw()
        .map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::super::outcome::Found;
    use super::*;

    #[test]
    fn page_has_its_plots_and_no_markup_from_names() {
        let trial = |pps: f64, forwarded| Trial {
            intended_pps: pps,
            offered_pps: pps,
            offered: 100,
            intended: 100,
            forwarded,
            ..Trial::default()
        };
        let at = AtLoad {
            name: "50 % of <NDR>".into(),
            pps: 1e6,
            device: None,
            generator: None,
            curve: vec![(0.0, 2.0), (0.5, 3.0), (0.99, 10.0), (1.0, 50.0)],
        };
        let outcome = Outcome {
            setup: vec![("device".into(), "a<b>&c".into())],
            trials: vec![trial(1e6, 100), trial(2e6, 90), trial(1.5e6, 100)],
            results: vec![Found::new("NDR", 0.0, Some(1.5e6), 64.0)],
            latency: vec![at],
            ..Outcome::default()
        };
        let page = page(&outcome).unwrap();
        assert_eq!(page.matches("<svg").count(), 3);
        assert!(page.contains("a&lt;b&gt;&amp;c") && !page.contains("<NDR>"));
        assert!(
            !page.contains("http://")
                || page.matches("http://").count() == page.matches("http://www.w3.org").count()
        );
        let nothing = super::page(&Outcome::default()).unwrap();
        assert_eq!(nothing.matches("<svg").count(), 0);
    }
}
