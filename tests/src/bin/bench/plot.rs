//! Lines over an axis, as SVG that is readable in light and dark.

use std::fmt::Write as _;

use crate::spread::Spread;

/// A picture.
pub struct Plot {
    /// Its file's name.
    pub file: &'static str,
    /// What it shows.
    pub title: String,
    /// To the right.
    pub x: Axis,
    /// Unit of what goes up, from 0.
    pub y: &'static str,
    /// The lines.
    pub series: Vec<Series>,
}

/// A line.
pub struct Series {
    /// What of.
    pub title: String,
    /// From the left to the right.
    pub points: Vec<(f64, Spread)>,
}

/// What goes to the right.
pub struct Axis {
    unit: &'static str,
    /// A step to the right is so many times as much; `None`: so much more.
    base: Option<f64>,
}

impl Axis {
    /// Even.
    pub fn linear(unit: &'static str) -> Self {
        Self { unit, base: None }
    }

    /// By powers of `base`.
    pub fn log(unit: &'static str, base: f64) -> Self {
        Self { unit, base: Some(base) }
    }

    fn place(&self, x: f64) -> f64 {
        self.base.map_or(x, |base| x.ln() / base.ln())
    }
}

impl Plot {
    /// As a file.
    pub fn svg(&self) -> String {
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\n<title>{}</title>\n\
             <style>{STYLE}</style>\n<rect class=\"back\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>\n",
            escaped(&self.title)
        );
        self.draw(&mut svg).expect("a string takes whatever is written to it");
        svg + "</svg>\n"
    }

    fn draw(&self, svg: &mut String) -> std::fmt::Result {
        text(svg, [LEFT, 22.0], "start title", &self.title)?;
        text(svg, [LEFT, 42.0], "start", self.y)?;
        let scale = Scale::of(self);
        for step in 0..=scale.steps {
            let value = scale.step * f64::from(step);
            let y = scale.y(value);
            line(svg, "grid", [LEFT, y], [RIGHT, y])?;
            text(svg, [LEFT - 8.0, y + 4.0], "end", &short(value))?;
        }
        for x in &scale.ticks {
            let at = scale.x(self.x.place(*x));
            line(svg, "axis", [at, BOTTOM], [at, BOTTOM + 5.0])?;
            text(svg, [at, BOTTOM + 20.0], "middle", &short(*x))?;
        }
        line(svg, "axis", [LEFT, BOTTOM], [RIGHT, BOTTOM])?;
        text(svg, [RIGHT, BOTTOM + 38.0], "end", self.x.unit)?;
        self.series.iter().enumerate().try_for_each(|(number, series)| self.series(svg, &scale, number, series))
    }

    fn series(&self, svg: &mut String, scale: &Scale, number: usize, series: &Series) -> std::fmt::Result {
        let class = format!("line s{}", number % COLOURS);
        let mut points = String::new();
        for (x, spread) in &series.points {
            let at = scale.x(self.x.place(*x));
            let [least, median, most] = [spread.least(), spread.median(), spread.most()].map(|value| scale.y(value));
            write!(points, "{at:.1},{median:.1} ")?;
            line(svg, &format!("range s{}", number % COLOURS), [at, least], [at, most])?;
            writeln!(svg, "<circle class=\"dot s{}\" cx=\"{at:.1}\" cy=\"{median:.1}\" r=\"3\"/>", number % COLOURS)?;
        }
        writeln!(svg, "<polyline class=\"{class}\" points=\"{}\"/>", points.trim_end())?;
        if self.series.len() > 1 {
            let y = TOP + 10.0 + 20.0 * number as f64;
            line(svg, &class, [RIGHT + 20.0, y], [RIGHT + 44.0, y])?;
            text(svg, [RIGHT + 52.0, y + 4.0], "start", &series.title)?;
        }
        Ok(())
    }
}

/// From figures to places in the picture.
struct Scale {
    /// Of the axis' places.
    from: f64,
    to: f64,
    /// What stands at the axis.
    ticks: Vec<f64>,
    /// Between two lines of the grid.
    step: f64,
    steps: u32,
}

impl Scale {
    fn of(plot: &Plot) -> Self {
        let points = || plot.series.iter().flat_map(|series| &series.points);
        let mut ticks: Vec<f64> = points().map(|(x, _)| *x).collect();
        ticks.sort_by(f64::total_cmp);
        ticks.dedup();
        let ends = [ticks.first(), ticks.last()].map(|x| x.map_or(0.0, |x| plot.x.place(*x)));
        // A single bad run does not flatten the rest: its range goes out of the picture.
        let highest = points().map(|(_, spread)| spread.median()).fold(0.0, f64::max) * 1.15;
        let step = round_up(highest / 6.0);
        Self { from: ends[0], to: ends[1], ticks, step, steps: (highest / step).ceil().max(1.0) as u32 }
    }

    fn x(&self, place: f64) -> f64 {
        let width = (self.to - self.from).max(f64::MIN_POSITIVE);
        LEFT + 20.0 + (RIGHT - LEFT - 40.0) * (place - self.from) / width
    }

    fn y(&self, value: f64) -> f64 {
        let share = (value / (self.step * f64::from(self.steps))).clamp(0.0, 1.0);
        BOTTOM - (BOTTOM - TOP) * share
    }
}

/// To 1, 2 or 5 times a power of ten.
fn round_up(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|step| *step >= value).unwrap_or(value)
}

/// 50 k, 10 M.
fn short(value: f64) -> String {
    match value {
        _ if value >= 1e6 => format!("{} M", value / 1e6),
        _ if value >= 1e4 => format!("{} k", value / 1e3),
        _ => format!("{}", (value * 1000.0).round() / 1000.0),
    }
}

fn line(svg: &mut String, class: &str, [x1, y1]: [f64; 2], [x2, y2]: [f64; 2]) -> std::fmt::Result {
    writeln!(svg, "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>")
}

fn text(svg: &mut String, [x, y]: [f64; 2], class: &str, text: &str) -> std::fmt::Result {
    writeln!(svg, "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", escaped(text))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 590.0;
const TOP: f64 = 60.0;
const BOTTOM: f64 = 360.0;

const COLOURS: usize = 7;

/// Colours that can be told apart by those who see few (Okabe and Ito), lighter on a dark page; each line also has
/// dashes of its own.
const STYLE: &str = "
text { font: 13px sans-serif; fill: #1f2328 } .title { font-size: 15px; font-weight: bold }
.start { text-anchor: start } .middle { text-anchor: middle } .end { text-anchor: end }
.back { fill: #ffffff } .grid { stroke: #d1d9e0 } .axis { stroke: #59636e }
.line { fill: none; stroke-width: 2 } .range { stroke-width: 1; opacity: 0.6 }
.s0 { stroke: #1f2328 } .s1 { stroke: #0072b2; stroke-dasharray: 8 3 } .s2 { stroke: #0072b2 }
.s3 { stroke: #009e73; stroke-dasharray: 2 3 } .s4 { stroke: #d55e00; stroke-dasharray: 8 3 } .s5 { stroke: #d55e00 }
.s6 { stroke: #aa4499; stroke-dasharray: 2 3 } .dot, .range { stroke-dasharray: none; fill: none }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .back { fill: #0d1117 } .grid { stroke: #30363d } .axis { stroke: #9198a1 }
.s0 { stroke: #e6edf3 } .s1, .s2 { stroke: #56b4e9 } .s3 { stroke: #2fd3a4 } .s4, .s5 { stroke: #ff9d57 }
.s6 { stroke: #dd88cc } }
";

#[cfg(test)]
mod tests {
    use super::*;

    fn plot() -> Plot {
        let points = |values: [f64; 2]| {
            let [one, other] = values.map(|value| Spread::of(vec![value, value * 0.9, value * 3.0]));
            vec![(1_000.0, one), (1_000_000.0, other)]
        };
        let series = [("a < b", [100.0, 200.0]), ("c", [50.0, 60.0])]
            .map(|(title, values)| Series { title: title.to_owned(), points: points(values) });
        Plot { file: "x.svg", title: "T".to_owned(), x: Axis::log("names", 10.0), y: "ns", series: series.into() }
    }

    #[test]
    fn a_picture_has_lines_with_their_titles_and_both_colour_schemes() {
        let svg = plot().svg();
        assert!(svg.contains("prefers-color-scheme: dark"));
        assert_eq!(svg.matches("<polyline").count(), 2);
        for text in [">a &lt; b</text>", ">1000</text>", ">1 M</text>", ">names</text>", ">200</text>"] {
            assert!(svg.contains(text), "{text} is not in {svg}");
        }
    }

    #[test]
    fn the_highest_median_is_in_the_picture_and_a_bad_run_is_not() {
        let plot = plot();
        let scale = Scale::of(&plot);
        assert_eq!((scale.step, scale.steps), (50.0, 5));
        assert!(scale.y(200.0) > TOP);
        assert_eq!((scale.y(600.0), scale.y(0.0)), (TOP, BOTTOM));
        let ends = [1e3, 1e6].map(|x| scale.x(plot.x.place(x)).round());
        assert_eq!(ends, [LEFT + 20.0, RIGHT - 20.0]);
    }

    #[test]
    fn steps_are_round() {
        for (value, step) in [(0.0, 1.0), (0.03, 0.05), (1.2, 2.0), (38.3, 50.0), (77.0, 100.0)] {
            assert!((round_up(value) - step).abs() < 1e-9, "{value}");
        }
    }
}
