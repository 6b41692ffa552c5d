//! The finger path on waves that look like prints, and the minutiae model against onnxruntime.
//!
//! A phase singularity in even ridges is a minutia whose place and direction are known (Larkin and
//! Fletcher's AM-FM model), and nobody's. `tests/fixtures/fingerprint/make_vectors.py` draws the same
//! wave.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "pictures are drawn by hand"
)]

use std::f64::consts::TAU;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use serde::Deserialize;
use tulga::capture::{DecodeLimits, EncodedImage, GreyImage, decode};
use tulga::crypto::sha256;
use tulga::domain::finger::{FingerView, Minutia, MinutiaKind};
use tulga::domain::finger_quality::{FingerQualityComponent, FingerQualityRefusal};
use tulga::fingerprint::{FingerAcquisition, FingerError, FingerProbe, FingerprintPipeline};
use tulga::inference::{InputShape, Model, ModelManifest};

use crate::process::{has, photograph};

static PIPELINE: LazyLock<FingerprintPipeline> =
    LazyLock::new(|| FingerprintPipeline::load(&root().join("models")).unwrap().unwrap());

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A minutia of a wave: its place, and 1 where it points to the right, -1 to the left.
type Singularity = (f64, f64, f64);

/// Ridges of nine pixels in an ellipse, with these singularities.
struct Wave {
    width: usize,
    height: usize,
    singularities: Vec<Singularity>,
}

impl Wave {
    /// A wave with a singularity every 46 columns and 52 rows or so, in an ellipse that leaves a
    /// twelfth of the sides free.
    fn new(width: usize, height: usize) -> Self {
        let (columns, rows) = (width / 46, height / 52);
        let places = (0..rows).flat_map(|j| (0..columns).map(move |i| (i, j)));
        let at = |n: usize, count: usize, spacing: f64| {
            (n as f64 - (count as f64 - 1.0) / 2.0) * spacing
        };
        let jitter = |n: usize, range: usize| (n % range) as f64 - (range / 2) as f64;
        let singularities = places.map(|(i, j)| {
            let x = width as f64 / 2.0 + at(i, columns, 46.0) + 2.0 * jitter(i * 7 + j * 5, 9);
            let y = height as f64 / 2.0 + at(j, rows, 52.0) + 2.0 * jitter(i * 5 + j * 3, 7);
            (x, y, if (i + j) % 2 == 0 { 1.0 } else { -1.0 })
        });
        Self { width, height, singularities: singularities.collect() }
    }

    /// How far a place is from the middle; 1 on the ellipse.
    fn radius(&self, x: f64, y: f64) -> f64 {
        let (width, height) = (self.width as f64, self.height as f64);
        ((x - width / 2.0) / (width * 0.46)).hypot((y - height / 2.0) / (height * 0.46))
    }

    fn grey(&self, x: usize, y: usize) -> u8 {
        let (x, y) = (x as f64, y as f64);
        if self.radius(x, y) > 1.0 {
            return 255;
        }
        let turns = self.singularities.iter().map(|(a, b, sign)| sign * (y - b).atan2(x - a));
        let phase = TAU * y / 9.0 + turns.sum::<f64>();
        (128.0 + 100.0 * phase.cos()).round() as u8
    }

    /// The wave on a white picture, its upper left corner at `left`, `top`.
    fn on(&self, picture: (usize, usize), (left, top): (usize, usize)) -> GreyImage {
        drawn(picture, |x, y| match (x.checked_sub(left), y.checked_sub(top)) {
            (Some(x), Some(y)) if x < self.width && y < self.height => self.grey(x, y),
            _ => 255,
        })
    }

    fn picture(&self) -> GreyImage {
        self.on((self.width, self.height), (0, 0))
    }
}

fn drawn((width, height): (usize, usize), grey: impl Fn(usize, usize) -> u8) -> GreyImage {
    let pixels = (0..width * height).map(|at| grey(at % width, at / width)).collect();
    GreyImage::from_pixels(width as u32, height as u32, 500, pixels).unwrap()
}

fn altered(image: &GreyImage, change: impl Fn(usize, usize, u8) -> u8) -> GreyImage {
    let (width, height) = (image.width() as usize, image.height() as usize);
    drawn((width, height), |x, y| change(x, y, image.pixels()[y * width + x]))
}

fn usable(image: &GreyImage) -> FingerProbe {
    match PIPELINE.probe(image).unwrap() {
        FingerAcquisition::Usable(probe) => probe,
        FingerAcquisition::Refused(refusal) => panic!("{refusal:?}"),
    }
}

fn refused(image: &GreyImage) -> FingerQualityRefusal {
    match PIPELINE.probe(image).unwrap() {
        FingerAcquisition::Usable(probe) => panic!("{:?}", probe.quality),
        FingerAcquisition::Refused(refusal) => refusal.cause,
    }
}

/// The minutia nearest a place that points as it should, and how far it is.
fn nearest(view: &FingerView, x: f64, y: f64, angle: f64) -> f64 {
    let points = |minutia: &&Minutia| (f64::from(minutia.angle()) - angle).cos() > 0.95;
    let distance =
        |minutia: &Minutia| (f64::from(minutia.x()) - x).hypot(f64::from(minutia.y()) - y);
    view.minutiae().iter().filter(points).map(distance).fold(f64::INFINITY, f64::min)
}

/// How many singularities well inside a wave were found within three pixels, and how many there are.
fn found(wave: &Wave, view: &FingerView, (left, top): (f64, f64)) -> (usize, usize) {
    let inside: Vec<_> =
        wave.singularities.iter().filter(|(x, y, _)| wave.radius(*x, *y) < 0.8).collect();
    let hits = inside.iter().filter(|(x, y, sign)| {
        let angle = if *sign > 0.0 { 0.0 } else { TAU / 2.0 };
        nearest(view, x + left, y + top, angle) <= 3.0
    });
    (hits.count(), inside.len())
}

#[test]
fn minutiae_are_where_the_wave_has_them_wherever_it_lies_in_the_picture() {
    let wave = Wave::new(256, 320);
    for (picture, at) in [
        ((256, 320), (0, 0)),     // smaller than the model's input
        ((700, 500), (400, 120)), // to the lower right of a large picture
        ((640, 900), (3, 570)),   // at the edges
    ] {
        let probe = usable(&wave.on(picture, at));
        let (hits, all) = found(&wave, &probe.view, (at.0 as f64, at.1 as f64));
        assert!(all >= 12 && hits == all, "{picture:?}: {hits} of {all}");
        assert_eq!(probe.view.model(), PIPELINE.model());
    }
}

#[test]
fn both_kinds_are_told_apart() {
    // White for black turns every ending into a fork and leaves places and directions.
    let wave = Wave::new(256, 320).picture();
    let (plain, negative) = (usable(&wave).view, usable(&altered(&wave, |_, _, it| 255 - it)).view);
    let mut kinds = Vec::new();
    for minutia in plain.minutiae() {
        let same =
            |other: &&Minutia| (other.x() - minutia.x()).hypot(other.y() - minutia.y()) < 6.0;
        kinds.extend(negative.minutiae().iter().find(same).map(|it| (minutia.kind(), it.kind())));
    }
    let count = |pair: (MinutiaKind, MinutiaKind)| kinds.iter().filter(|it| **it == pair).count();
    let (ending, fork) = (MinutiaKind::Ending, MinutiaKind::Bifurcation);
    assert!(count((ending, fork)) >= 5 && count((fork, ending)) >= 5, "{kinds:?}");
    assert_eq!(count((ending, ending)) + count((fork, fork)), 0, "{kinds:?}");
}

#[test]
fn a_picture_on_its_head_gives_the_same_minutiae_on_theirs() {
    let wave = Wave::new(256, 320);
    let upright = wave.picture();
    let turned = altered(&upright, |x, y, _| wave.grey(255 - x, 319 - y));
    let (upright, turned) = (usable(&upright).view, usable(&turned).view);
    let opposite = upright.minutiae().iter().filter(|minutia| {
        let (x, y) = (255.0 - f64::from(minutia.x()), 319.0 - f64::from(minutia.y()));
        nearest(&turned, x, y, f64::from(minutia.angle()) + TAU / 2.0) <= 3.0
    });
    let (opposite, all) = (opposite.count(), upright.minutiae().len());
    assert!(opposite * 10 >= all * 9, "{opposite} of {all}");
}

#[test]
fn one_picture_gives_one_view_bit_for_bit() {
    let picture = Wave::new(256, 320).picture();
    let first = usable(&picture).view.to_bytes();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| assert_eq!(*usable(&picture).view.to_bytes(), *first));
        }
    });
}

/// Two fingertips' length and more: the model sees the middle.
#[test]
fn of_a_print_larger_than_the_model_s_input_the_middle_is_used() {
    let mut wave = Wave::new(640, 900);
    // Every other row of 13, since a view keeps 120 minutiae at most.
    let mut place = 0;
    wave.singularities.retain(|_| {
        place += 1;
        (place - 1) / 13 % 2 == 0
    });
    let probe = usable(&wave.picture());
    let inner = |minutia: &Minutia| {
        (64.0..576.0).contains(&minutia.x()) && (130.0..770.0).contains(&minutia.y())
    };
    assert!(probe.view.minutiae().iter().all(inner));
    let seen = |(x, y, _): &&Singularity| (90.0..550.0).contains(x) && (156.0..744.0).contains(y);
    for (x, y, sign) in wave.singularities.iter().filter(seen) {
        let angle = if *sign > 0.0 { 0.0 } else { TAU / 2.0 };
        assert!(nearest(&probe.view, *x, *y, angle) <= 3.0, "{x} {y}");
    }
}

#[test]
fn what_cannot_be_used_says_what_to_mend() {
    let wave = Wave::new(256, 320);
    for blank in [0, 128, 255] {
        assert_eq!(refused(&drawn((300, 400), |_, _| blank)), FingerQualityRefusal::NoFinger);
    }
    let shade = drawn((300, 400), |x, y| ((x + y) / 4) as u8);
    assert_eq!(refused(&shade), FingerQualityRefusal::NoFinger);
    let tiny = drawn((40, 40), |x, y| wave.grey(100 + x, 140 + y));
    assert_eq!(refused(&tiny), FingerQualityRefusal::PictureTooSmall);
    assert_eq!(refused(&Wave::new(120, 150).picture()), FingerQualityRefusal::Partial);
    let even = Wave { singularities: vec![(128.0, 160.0, 1.0)], ..Wave::new(256, 320) };
    assert_eq!(refused(&even.picture()), FingerQualityRefusal::FewMinutiae);
    let noise = drawn((300, 400), |x, y| {
        sha256(&[x as u8, (x >> 8) as u8, y as u8, (y >> 8) as u8]).as_bytes()[0]
    });
    assert_eq!(refused(&noise), FingerQualityRefusal::FewMinutiae);
}

#[test]
fn two_fingers_beside_each_other_are_refused_and_two_joints_of_one_are_not() {
    let wave = Wave::new(240, 320);
    for gap in [30, 60, 120] {
        // The ellipse itself leaves a twenty-fifth of its width free on each side.
        let beside = drawn((480 + gap, 320), |x, y| {
            let x = if x < 240 { Some(x) } else { x.checked_sub(240 + gap) };
            x.map_or(255, |x| wave.grey(x, y))
        });
        assert_eq!(refused(&beside), FingerQualityRefusal::MultipleFingers, "{gap}");
    }
    let crease = |y: usize| (215..235).contains(&y);
    let jointed = altered(&wave.picture(), |_, y, grey| if crease(y) { 255 } else { grey });
    assert_eq!(usable(&jointed).quality.refusal(), None);
    let speck = drawn((600, 320), |x, y| {
        if x < 240 {
            wave.grey(x, y)
        } else if x > 560 && y < 60 {
            (x * 40 + y * 90) as u8
        } else {
            255
        }
    });
    assert_eq!(usable(&speck).quality.refusal(), None);
}

#[test]
fn a_face_is_no_finger() {
    let limits = DecodeLimits::default();
    let bytes = fs::read(photograph("astronaut.png")).unwrap();
    let face = decode(&EncodedImage::new(bytes), &limits).unwrap();
    let grey = face.rgb().chunks_exact(3).map(|rgb| rgb[1]).collect();
    let face = GreyImage::from_pixels(face.width(), face.height(), 500, grey).unwrap();
    let cause = refused(&face);
    assert!(
        matches!(cause, FingerQualityRefusal::LowQuality | FingerQualityRefusal::FewMinutiae),
        "{cause:?}"
    );
}

#[test]
fn a_refusal_tells_what_was_measured_until_then() {
    let measured = |image: &GreyImage| match PIPELINE.probe(image).unwrap() {
        FingerAcquisition::Usable(probe) => probe.quality,
        FingerAcquisition::Refused(refusal) => refusal.quality,
    };
    let blank = measured(&drawn((300, 400), |_, _| 255));
    assert_eq!(blank.value(FingerQualityComponent::UniformImage), Some(0.0));
    assert_eq!(blank.value(FingerQualityComponent::EmptyImageOrContrastTooLow), Some(255.0));
    assert_eq!(blank.value(FingerQualityComponent::FingerprintImageWithMinutiae), None);
    let whole = measured(&Wave::new(256, 320).picture());
    assert_eq!(whole.measures().len(), 5);
    let foreground = whole.value(FingerQualityComponent::SufficientFingerprintForeground).unwrap();
    // The ellipse, and at most two blocks of eight pixels about it.
    let ellipse = |more: f64| TAU / 2.0 * (256.0 * 0.46 + more) * (320.0 * 0.46 + more);
    let expected = ellipse(0.0)..ellipse(16.0);
    assert!(expected.contains(&f64::from(foreground)), "{foreground}, not {expected:?}");
}

#[test]
fn a_picture_that_was_not_prepared_is_an_error() {
    let wave = Wave::new(256, 320).picture();
    let coarse = GreyImage::from_pixels(256, 320, 1000, wave.pixels().to_vec()).unwrap();
    assert!(matches!(PIPELINE.probe(&coarse), Err(FingerError::Resolution(1000))));
    let long = drawn((4097, 100), |_, _| 255);
    assert!(matches!(PIPELINE.probe(&long), Err(FingerError::TooLarge)));
}

#[test]
fn a_folder_without_fingers_loads_none_and_a_model_that_was_tampered_with_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let models = root().join("models");
    let manifest = fs::read_to_string(models.join("manifest.toml")).unwrap();
    let (before, rest) = manifest.split_once("[finger]").unwrap();
    let (_, after) = rest.split_once("\n[quality]").unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("manifest.toml"), format!("{before}\n[quality]{after}")).unwrap();
    assert!(FingerprintPipeline::load(dir.path()).unwrap().is_none());
    fs::write(at("manifest.toml"), manifest).unwrap();
    assert!(FingerprintPipeline::load(dir.path()).is_err());
    let mut bytes = fs::read(models.join("leader.onnx")).unwrap();
    bytes[60_000] ^= 1;
    fs::write(at("leader.onnx"), bytes).unwrap();
    assert!(FingerprintPipeline::load(dir.path()).is_err());
}

#[derive(Deserialize)]
struct Vectors {
    width: usize,
    height: usize,
    picture_sha256: String,
    step: usize,
    maps: Vec<Vec<f32>>,
}

fn leader(width_px: usize, height_px: usize) -> Model {
    let manifest = ModelManifest::load(&root().join("models")).unwrap();
    manifest.finger.unwrap().source.load(InputShape { planes: 1, height_px, width_px }).unwrap()
}

/// The model's numbers for an input of whole grey levels.
fn drawn_by(model: &Model, image: &GreyImage) -> Vec<f32> {
    let planes: Vec<f32> = image.pixels().iter().copied().map(f32::from).collect();
    let [output] = <[_; 1]>::try_from(model.run(&planes).unwrap()).unwrap();
    output.values
}

#[test]
fn the_model_draws_what_onnxruntime_draws() {
    let text = fs::read_to_string(root().join("tests/fixtures/fingerprint/vectors.json")).unwrap();
    let Vectors { width, height, picture_sha256, step, maps } =
        serde_json::from_str(&text).unwrap();
    let picture = Wave::new(width, height).picture();
    assert_eq!(sha256(picture.pixels()).hex(), picture_sha256, "another wave was drawn");
    let values = drawn_by(&leader(width, height), &picture);
    assert_eq!(maps.len(), 4);
    let mut compared = 0;
    for (map, expected) in values.chunks_exact(width * height).zip(&maps) {
        let rows = (step / 2..height).step_by(step);
        let places = rows.flat_map(|y| (step / 2..width).step_by(step).map(move |x| (x, y)));
        for ((x, y), expected) in places.zip(expected) {
            let value = map[y * width + x];
            assert!((value - expected).abs() <= 1e-4, "{x} {y}: {value}, not {expected}");
            compared += 1;
        }
    }
    assert_eq!(compared, maps.iter().map(Vec::len).sum::<usize>());
}

/// Ten prints of the development pack where it is, else ten waves, by a runtime that shares no code
/// with ours.
#[test]
fn the_model_draws_prints_as_a_foreign_runtime_does() {
    let how = "get it with: pip install onnxruntime==1.31.1 numpy";
    if !has("python3", &["-c", "import onnxruntime, numpy"], how) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let prints = prints(dir.path()).unwrap_or_else(|| {
        (0..10).map(|n| Wave::new(230 + 9 * n, 330).on((320, 384), (n, 2 * n))).collect()
    });
    let (width, height) = (320, 384);
    let model = leader(width, height);
    let (input, output) = (dir.path().join("in"), dir.path().join("out"));
    let mut ours = Vec::new();
    let mut bytes = Vec::new();
    for print in &prints {
        let side = (print.width() as usize, print.height() as usize);
        let inside = |x: usize, y: usize| x < side.0 && y < side.1;
        let image =
            drawn(
                (width, height),
                |x, y| {
                    if inside(x, y) { print.pixels()[y * side.0 + x] } else { 255 }
                },
            );
        bytes.extend_from_slice(image.pixels());
        ours.extend(drawn_by(&model, &image));
    }
    fs::write(&input, bytes).unwrap();
    let script = root().join("tests/foreign/leader.py");
    let file = root().join("models/leader.onnx");
    let run = Command::new("python3")
        .args([&script, &file, &input, &output])
        .args([width.to_string(), height.to_string()])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let theirs = fs::read(&output).unwrap();
    let theirs = theirs.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
    assert_eq!(theirs.len(), ours.len());
    let worst = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    println!("{} prints, largest difference {worst:e}", prints.len());
    assert!(prints.len() == 10 && worst <= 1e-4, "{worst}");
}

/// Ten prints of the finger development pack; an archive is unpacked below `dir`.
fn prints(dir: &Path) -> Option<Vec<GreyImage>> {
    let data = std::env::var_os("TULGA_EVAL_DIR")
        .map_or_else(|| root().join("../shared/data"), PathBuf::from);
    let (archive, folder) = (data.join("finger-dev-pack.tar.xz"), data.join("finger-dev-pack"));
    let below = "fvc2000_db1_b/pgm";
    let folder = if folder.is_dir() {
        folder.join(below)
    } else if archive.is_file() {
        let inside = format!("finger-dev-pack/{below}");
        let mut tar = Command::new("tar");
        tar.arg("-xJf").arg(&archive).arg("-C").arg(dir).arg(&inside);
        assert!(tar.status().unwrap().success(), "{} does not unpack", archive.display());
        dir.join(inside)
    } else {
        eprintln!("skipped: no finger-dev-pack in {}; set TULGA_EVAL_DIR", data.display());
        return None;
    };
    Some((101..=110).map(|finger| pgm(&folder.join(format!("{finger}_1.pgm")))).collect())
}

/// A binary PGM picture of 8 bits, taken to be of 500 pixels an inch.
fn pgm(path: &Path) -> GreyImage {
    let bytes = fs::read(path).unwrap();
    let mut fields = bytes.splitn(5, u8::is_ascii_whitespace);
    let mut word = || std::str::from_utf8(fields.next().unwrap()).unwrap();
    assert_eq!(word(), "P5", "{}", path.display());
    let (width, height) = (word().parse().unwrap(), word().parse().unwrap());
    assert_eq!(word(), "255", "{}", path.display());
    GreyImage::from_pixels(width, height, 500, fields.next().unwrap().to_vec()).unwrap()
}

/// Writes the minutiae of every `*.pgm` in `TULGA_FINGER_DIR` to `TULGA_FINGER_OUT`, a line each: x, y,
/// angle, quality; for matchers outside. Says what the gates measured.
#[test]
#[ignore = "a tool for measurements: it needs a folder of prints"]
fn extract_a_folder() {
    let folder = |name| PathBuf::from(std::env::var_os(name).unwrap());
    let (from, to) = (folder("TULGA_FINGER_DIR"), folder("TULGA_FINGER_OUT"));
    fs::create_dir_all(&to).unwrap();
    let mut paths: Vec<_> = fs::read_dir(from).unwrap().map(|it| it.unwrap().path()).collect();
    paths.sort();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|it| it == "pgm")) {
        let image = pgm(path);
        let name = path.file_stem().unwrap().to_str().unwrap();
        let (word, quality, view) = match PIPELINE.probe(&image).unwrap() {
            FingerAcquisition::Usable(probe) => ("usable", probe.quality, Some(probe.view)),
            FingerAcquisition::Refused(refusal) => {
                (refusal.cause.code(), refusal.quality, PIPELINE.ungated(&image).unwrap())
            }
        };
        let values: Vec<_> = quality.measures().iter().map(|measure| measure.value).collect();
        println!("{name} {word} {values:?}");
        let mut text = String::new();
        for minutia in view.iter().flat_map(FingerView::minutiae) {
            let (x, y, angle) = (minutia.x(), minutia.y(), minutia.angle());
            writeln!(text, "{x} {y} {angle:.5} {:.5}", minutia.quality()).unwrap();
        }
        fs::write(to.join(format!("{name}.txt")), text).unwrap();
    }
}
