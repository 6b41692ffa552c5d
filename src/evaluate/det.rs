//! The detection error trade-off curve as an SVG, both axes logarithmic.

use std::fmt::Write as _;

use super::report::{Evaluation, GateTable, Table};

/// Draws FNMR over FMR, a curve for each protocol, with the operating points and their intervals.
#[must_use]
pub fn det_svg(evaluation: &Evaluation) -> String {
    let name = "recognition only: one picture against one picture, no gates";
    let mut curves = vec![(name, &evaluation.recognition)];
    if let GateTable::Measured(table) = &evaluation.gateway.table {
        curves.push(("gateway: usable probe against template", table));
    }
    det_svg_of(&curves)
}

/// As [`det_svg`], of named tables.
#[must_use]
pub fn det_svg_of(tables: &[(&'static str, &Table)]) -> String {
    let colours = ["#0b5394", "#b45309", "#38761d"].into_iter().cycle();
    let curves = tables.iter().zip(colours);
    let curves = curves.map(|((name, table), colour)| Curve { name, colour, table });
    let curves = curves.collect::<Vec<_>>();
    let frame = Frame::around(&curves);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         width=\"{WIDTH}\" height=\"{HEIGHT}\" font-family=\"system-ui, sans-serif\" \
         font-size=\"13\" fill=\"#222\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"28\" font-size=\"17\" font-weight=\"600\">Detection error \
         trade-off</text>\n"
    );
    svg.push_str(&frame.grid());
    svg.push_str(&frame.diagonal());
    for (place, curve) in (0u8..).zip(&curves) {
        svg.push_str(&frame.curve(curve));
        svg.push_str(&legend(curve, place));
    }
    svg.push_str("</svg>\n");
    svg
}

struct Curve<'a> {
    name: &'static str,
    colour: &'static str,
    table: &'a Table,
}

/// The decades that are shown, as powers of ten.
struct Frame {
    fmr: (i8, i8),
    fnmr: (i8, i8),
}

impl Frame {
    fn around(curves: &[Curve<'_>]) -> Self {
        let rates = || curves.iter().flat_map(|curve| &curve.table.det);
        let least = |rates: &mut dyn Iterator<Item = f64>| {
            let least = rates.filter(|rate| *rate > 0.0).fold(1.0, f64::min);
            (-7..=-2).rev().find(|power| 10f64.powi(i32::from(*power)) <= least).unwrap_or(-7)
        };
        Self {
            fmr: (least(&mut rates().map(|point| point.0)), 0),
            fnmr: (least(&mut rates().map(|point| point.1)), 0),
        }
    }

    /// Pixels from the left; rates beyond the frame lie on its edge.
    fn x(&self, fmr: f64) -> f64 {
        LEFT + share(fmr, self.fmr) * (WIDTH - LEFT - RIGHT)
    }

    /// Pixels from the top.
    fn y(&self, fnmr: f64) -> f64 {
        HEIGHT - BOTTOM - share(fnmr, self.fnmr) * (HEIGHT - TOP - BOTTOM)
    }

    fn grid(&self) -> String {
        let (top, bottom) = (TOP, HEIGHT - BOTTOM);
        let (left, right) = (LEFT, WIDTH - RIGHT);
        let mut svg = String::new();
        for power in self.fmr.0..=self.fmr.1 {
            let x = self.x(10f64.powi(i32::from(power)));
            let _infallible = writeln!(
                svg,
                "<path d=\"M{x:.1} {top}V{bottom}\" stroke=\"#ddd\"/>\
                 <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                bottom + 20.0,
                decade(power),
            );
        }
        for power in self.fnmr.0..=self.fnmr.1 {
            let y = self.y(10f64.powi(i32::from(power)));
            let _infallible = writeln!(
                svg,
                "<path d=\"M{left} {y:.1}H{right}\" stroke=\"#ddd\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                left - 8.0,
                y + 4.5,
                decade(power),
            );
        }
        let _infallible = write!(
            svg,
            "<path d=\"M{left} {top}V{bottom}H{right}\" fill=\"none\" stroke=\"#555\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">False match rate (FMR)</text>\n\
             <text transform=\"translate(22 {:.1}) rotate(-90)\" text-anchor=\"middle\">False \
             non-match rate (FNMR)</text>\n",
            f64::midpoint(left, right),
            bottom + 44.0,
            f64::midpoint(top, bottom),
        );
        svg
    }

    /// Where both rates are the same.
    fn diagonal(&self) -> String {
        let from = 10f64.powi(i32::from(self.fmr.0.max(self.fnmr.0)));
        let (x, y) = (self.x(from), self.y(from));
        let (end_x, end_y) = (self.x(1.0), self.y(1.0));
        let (label_x, label_y) = (self.x(0.25) - 8.0, self.y(0.25) - 6.0);
        format!(
            "<path d=\"M{x:.1} {y:.1}L{end_x:.1} {end_y:.1}\" stroke=\"#999\" \
             stroke-dasharray=\"4 4\"/>\n<text x=\"{label_x:.1}\" y=\"{label_y:.1}\" \
             text-anchor=\"end\" fill=\"#777\" font-size=\"12\">EER line: FMR = FNMR</text>\n"
        )
    }

    fn curve(&self, curve: &Curve<'_>) -> String {
        let colour = curve.colour;
        let mut path = String::new();
        // A curve ends where no genuine comparison is refused any more: zero has no logarithm.
        for (fmr, fnmr) in curve.table.det.iter().filter(|point| point.1 > 0.0) {
            let to = if path.is_empty() { 'M' } else { 'L' };
            let _infallible = write!(path, "{to}{:.1} {:.1}", self.x(*fmr), self.y(*fnmr));
        }
        let mut svg = format!(
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2.2\" \
             stroke-linejoin=\"round\"/>\n"
        );
        for (name, fnmr) in &curve.table.fnmr {
            let Ok(fmr) = name.parse::<f64>() else { continue };
            if *fnmr <= 0.0 || curve.table.unsupported.contains(name) {
                continue;
            }
            let (x, y) = (self.x(fmr), self.y(*fnmr));
            if let Some(interval) = curve.table.fnmr_interval.get(name) {
                let (low, high) = (self.y(interval.0), self.y(interval.1));
                let _infallible = write!(
                    svg,
                    "<path d=\"M{x:.1} {low:.1}V{high:.1}M{:.1} {low:.1}h8M{:.1} {high:.1}h8\" \
                     stroke=\"{colour}\" stroke-width=\"1.3\"/>",
                    x - 4.0,
                    x - 4.0,
                );
            }
            let _infallible =
                writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{colour}\"/>");
        }
        svg
    }
}

/// Name and figures of a curve, above the frame.
fn legend(curve: &Curve<'_>, place: u8) -> String {
    let (x, y) = (LEFT, 54.0 + 21.0 * f64::from(place));
    let eer = curve.table.eer * 100.0;
    format!(
        "<path d=\"M{x} {:.1}h26\" stroke=\"{}\" stroke-width=\"2.2\"/>\
         <text x=\"{:.1}\" y=\"{y:.1}\">{} (EER {eer:.2} %)</text>\n",
        y - 4.5,
        curve.colour,
        x + 34.0,
        curve.name,
    )
}

/// How far along an axis of these decades a rate lies, 0 to 1.
fn share(rate: f64, decades: (i8, i8)) -> f64 {
    let (low, high) = (f64::from(decades.0), f64::from(decades.1));
    let power = rate.max(f64::MIN_POSITIVE).log10();
    ((power - low) / (high - low)).clamp(0.0, 1.0)
}

/// A power of ten as people read it: percent, and from 10⁻⁵ down a raised exponent.
const fn decade(power: i8) -> &'static str {
    match power {
        0 => "100 %",
        -1 => "10 %",
        -2 => "1 %",
        -3 => "0.1 %",
        -4 => "0.01 %",
        -5 => "10\u{207b}\u{2075}",
        -6 => "10\u{207b}\u{2076}",
        _ => "10\u{207b}\u{2077}",
    }
}

const WIDTH: f64 = 820.0;
const HEIGHT: f64 = 600.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 34.0;
const TOP: f64 = 92.0;
const BOTTOM: f64 = 66.0;

#[cfg(test)]
mod tests {
    use super::super::protocol::tests::{matcher, picture};
    use super::super::{Bootstrap, judge};
    use super::*;

    #[test]
    fn both_curves_are_drawn_within_the_frame() {
        let acquired: Vec<_> = (0..40u8)
            .map(|at| {
                picture(u32::from(at / 4), f32::from(at / 4) * 30.0 + f32::from(at % 4) * 13.0)
            })
            .collect();
        let targets = ["1e-1".parse().unwrap(), "1e-2".parse().unwrap()];
        let bootstrap = Bootstrap { draws: 50, seed: 1 };
        let evaluation = judge(&acquired, 10, &matcher(), &targets, bootstrap).unwrap();
        let svg = det_svg(&evaluation);
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
        assert!(svg.contains("False match rate (FMR)") && svg.contains("gateway: usable probe"));
        assert_eq!(svg.matches("stroke-linejoin").count(), 2, "two curves");
        for number in svg.split("cx=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            let x: f64 = number.parse().unwrap();
            assert!((LEFT..=WIDTH - RIGHT).contains(&x));
        }
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn rates_beyond_the_frame_lie_on_its_edge() {
        let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert!(near(share(1.0, (-4, 0)), 1.0));
        assert!(near(share(0.01, (-4, 0)), 0.5));
        assert!(near(share(0.0, (-4, 0)), 0.0));
        assert!(near(share(2.0, (-4, 0)), 1.0));
    }
}
