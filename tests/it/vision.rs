//! The face path against `OpenCV` and onnxruntime, and on what cannot be used.
//!
//! `tests/fixtures/vision/make_vectors.py` made the vectors, from the photographs in `demo/`.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "pixels are altered by hand, and a test may fail by panicking"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde::Deserialize;
use tulga::capture::{DecodeError, DecodeLimits, DecodedImage, EncodedImage, decode};
use tulga::domain::embedding::Making;
use tulga::domain::quality::{QualityComponent, QualityRefusal};
use tulga::face::{Acquisition, DetectedFace, FaceError, FacePipeline, Landmarks, Point, Probe};
use tulga::inference::{ManifestError, ModelManifest};
use tulga::matching::{Matcher, Template};

use crate::attempts::alike::{with_broken_liveness, with_liveness};

#[derive(Deserialize)]
struct Vectors {
    vectors: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    picture: String,
    landmarks: [[f32; 2]; 5],
    sface_norm: f32,
    sface: Vec<f32>,
    dlib: Vec<f32>,
    liveness: f32,
    refined: Refined,
}

#[derive(Deserialize)]
struct Refined {
    landmarks: [[f32; 2]; 5],
    sface: Vec<f32>,
    dlib: Vec<f32>,
}

pub static PIPELINE: LazyLock<FacePipeline> =
    LazyLock::new(|| FacePipeline::load(&root().join("models")).unwrap());

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn vectors() -> Vec<Vector> {
    let text = fs::read_to_string(root().join("tests/fixtures/vision/vectors.json")).unwrap();
    serde_json::from_str::<Vectors>(&text).unwrap().vectors
}

fn photograph_bytes(name: &str) -> Vec<u8> {
    fs::read(root().join("demo").join(name)).unwrap()
}

pub fn photograph(name: &str) -> DecodedImage {
    decode(&EncodedImage::new(photograph_bytes(name)), &DecodeLimits::default()).unwrap()
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

pub fn usable(acquisition: Acquisition) -> Probe {
    match acquisition {
        Acquisition::Usable(probe) => probe,
        Acquisition::Refused(refusal) => panic!("{refusal:?}"),
    }
}

fn refused(image: &DecodedImage) -> QualityRefusal {
    refusal(PIPELINE.probe(image).unwrap())
}

fn refusal(acquisition: Acquisition) -> QualityRefusal {
    match acquisition {
        Acquisition::Usable(probe) => panic!("{:?}", probe.quality),
        Acquisition::Refused(refusal) => refusal.cause,
    }
}

/// The picture with each pixel's channels through a function of column, row and value.
fn altered(image: &DecodedImage, change: impl Fn(usize, usize, u8) -> u8) -> DecodedImage {
    let width = image.width() as usize;
    let rgb = image.rgb().iter().enumerate();
    let rgb = rgb.map(|(at, value)| change(at / 3 % width, at / 3 / width, *value)).collect();
    DecodedImage::from_rgb(image.width(), image.height(), rgb).unwrap()
}

fn beside(left: &DecodedImage, right: &DecodedImage) -> DecodedImage {
    let height = left.height().min(right.height()) as usize;
    let (lw, rw) = (left.width() as usize * 3, right.width() as usize * 3);
    let mut rgb = Vec::new();
    for row in 0..height {
        rgb.extend_from_slice(&left.rgb()[row * lw..(row + 1) * lw]);
        rgb.extend_from_slice(&right.rgb()[row * rw..(row + 1) * rw]);
    }
    DecodedImage::from_rgb(left.width() + right.width(), height as u32, rgb).unwrap()
}

/// Every `factor`-th pixel of every `factor`-th row.
fn shrunk(image: &DecodedImage, factor: usize) -> DecodedImage {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let mut rgb = Vec::new();
    for row in (0..height).step_by(factor) {
        for column in (0..width).step_by(factor) {
            rgb.extend_from_slice(&image.rgb()[(row * width + column) * 3..][..3]);
        }
    }
    let side = |length: usize| length.div_ceil(factor) as u32;
    DecodedImage::from_rgb(side(width), side(height), rgb).unwrap()
}

/// Each pixel the mean of the square of `radius` about it.
fn blurred(image: &DecodedImage, radius: usize) -> DecodedImage {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let mut sums = vec![0u64; (width + 1) * (height + 1) * 3];
    let at = |x: usize, y: usize, c: usize| (y * (width + 1) + x) * 3 + c;
    for y in 0..height {
        for x in 0..width {
            for c in 0..3 {
                sums[at(x + 1, y + 1, c)] = u64::from(image.rgb()[(y * width + x) * 3 + c])
                    + sums[at(x, y + 1, c)]
                    + sums[at(x + 1, y, c)]
                    - sums[at(x, y, c)];
            }
        }
    }
    let mut rgb = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        let (y0, y1) = (y.saturating_sub(radius), (y + radius + 1).min(height));
        for x in 0..width {
            let (x0, x1) = (x.saturating_sub(radius), (x + radius + 1).min(width));
            for c in 0..3 {
                let sum = sums[at(x1, y1, c)] + sums[at(x0, y0, c)]
                    - sums[at(x0, y1, c)]
                    - sums[at(x1, y0, c)];
                rgb.push((sum / ((x1 - x0) * (y1 - y0)) as u64) as u8);
            }
        }
    }
    DecodedImage::from_rgb(image.width(), image.height(), rgb).unwrap()
}

#[test]
fn landmarks_lie_within_half_a_pixel_of_opencv_s() {
    for vector in vectors() {
        let face = PIPELINE.detect(&photograph(&vector.picture)).unwrap()[0];
        for (ours, theirs) in face.landmarks.0.iter().zip(vector.landmarks) {
            let distance = (ours.x - theirs[0]).hypot(ours.y - theirs[1]);
            println!("{} {distance:.3}", vector.picture);
            assert!(distance <= 0.5, "{}: {ours:?} {theirs:?}", vector.picture);
        }
    }
}

/// The embedding stage by itself: `OpenCV`'s landmarks, so that their last hundredths of a pixel (on
/// which `SFace` turns by up to two hundredths of a degree) are not counted twice.
#[test]
fn embeddings_equal_opencv_s_and_onnxruntime_s() {
    for vector in vectors() {
        let image = photograph(&vector.picture);
        let landmarks = Landmarks(vector.landmarks.map(|[x, y]| Point { x, y }));
        let face = DetectedFace { landmarks, ..PIPELINE.detect(&image).unwrap()[0] };
        let assessed = PIPELINE.assess(&image, face).unwrap().unwrap();
        let norm = assessed.report().value(QualityComponent::UnifiedQualityScore).unwrap();
        let usable = assessed.require().unwrap();
        let embedding = PIPELINE.embed(&usable, Making::Single).unwrap();
        let sface = cosine(embedding.sface.values(), &vector.sface);
        let dlib = cosine(embedding.dlib.values(), &vector.dlib);
        println!("{} sface {sface:.6} dlib {dlib:.6} norm {norm:.3}", vector.picture);
        assert!(sface >= 0.9999, "{}: {sface}", vector.picture);
        assert!(dlib >= 0.9999, "{}: {dlib}", vector.picture);
        assert!((norm - vector.sface_norm).abs() < 0.05, "{}: {norm}", vector.picture);
    }
}

/// The whole path. Decoders and detectors differ by a few hundredths of a pixel, so a close look, which begins
/// at a whole one, may begin at the next; and there YuNet itself is unsteady: on `obama3.jpg` OpenCV's own
/// landmarks move by up to 5.5 pixels of 122 between the eyes when its square is moved by one. Half of that
/// goes into the mean, so more is allowed than for the embedding alone.
#[test]
fn the_whole_path_from_file_to_embedding_equals_opencv_s() {
    for vector in vectors() {
        let image = photograph(&vector.picture);
        let located = PIPELINE.locate(&image).unwrap().unwrap();
        let [right_eye, left_eye, ..] = vector.refined.landmarks;
        let eyes = (right_eye[0] - left_eye[0]).hypot(right_eye[1] - left_eye[1]);
        for (ours, theirs) in located.landmarks.0.iter().zip(vector.refined.landmarks) {
            let apart = (ours.x - theirs[0]).hypot(ours.y - theirs[1]);
            println!("{} {apart:.2} px of {eyes:.0} between the eyes", vector.picture);
            assert!(apart <= 0.5 + 0.03 * eyes, "{}: {apart} of {eyes}", vector.picture);
        }
        let face = PIPELINE.nearest_centre(&image).unwrap().unwrap();
        let sface = cosine(face.sface.values(), &vector.refined.sface);
        let dlib = cosine(face.dlib.values(), &vector.refined.dlib);
        println!("{} sface {sface:.6} dlib {dlib:.6}", vector.picture);
        assert!(sface >= 0.98 && dlib >= 0.998, "{}: {sface} {dlib}", vector.picture);
    }
}

#[test]
fn each_portrait_matches_its_own_person_and_nobody_else() {
    let matcher = Matcher::new(PIPELINE.manifest().matching.clone());
    let enrolled = usable(PIPELINE.enrol(&photograph("obama.jpg")).unwrap());
    assert_eq!(enrolled.embedding.making, Making::MirrorAveraged);
    assert_eq!(enrolled.embedding.sface.model(), PIPELINE.embedding_models()[0]);
    let template = Template::from_captures(&[enrolled.embedding]).unwrap();
    let strength = |name| {
        let probe = usable(PIPELINE.probe(&photograph(name)).unwrap());
        assert!(probe.liveness.is_none());
        matcher.verify(&probe.embedding, &template).unwrap().db()
    };
    assert!(strength("obama2.jpg") >= 40);
    assert!(strength("obama3.jpg") >= 40);
    assert!(strength("biden.jpg") < 20);
    assert!(strength("astronaut.png") < 20);
}

#[test]
fn what_cannot_be_used_says_what_to_mend() {
    let good = photograph("astronaut.png");
    usable(PIPELINE.probe(&good).unwrap());
    let empty = altered(&good, |x, y, _| ((x + y) / 8) as u8);
    assert_eq!(refused(&empty), QualityRefusal::NoFace);
    assert_eq!(refused(&beside(&good, &good)), QualityRefusal::MultipleFaces);
    assert_eq!(refused(&shrunk(&good, 2)), QualityRefusal::FaceTooSmall);
    assert_eq!(refused(&altered(&good, |_, _, value| value / 6)), QualityRefusal::TooDark);
    let glare = altered(&good, |_, _, value| 225 + value / 9);
    assert_eq!(refused(&glare), QualityRefusal::TooBright);
    assert_eq!(refused(&blurred(&good, 4)), QualityRefusal::Blurred);
}

/// With another thread's help, and without.
fn both_ways(
    pipeline: &FacePipeline,
    look: impl Fn(&FacePipeline, bool) -> Result<Acquisition, FaceError> + Sync,
) -> [(Result<Acquisition, FaceError>, u64); 2] {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    [false, true].map(|is_helped| {
        let before = pipeline.passes();
        let acquired = pool.install(|| look(pipeline, is_helped));
        (acquired, pipeline.passes() - before)
    })
}

#[test]
fn another_thread_s_help_changes_no_answer() {
    let pipeline = with_liveness(true);
    for vector in vectors() {
        let picture = photograph(&vector.picture);
        let probed = both_ways(&pipeline, |pipeline, is_helped| {
            pipeline.probe_with(&picture, || is_helped.then_some(()))
        });
        let enrolled = both_ways(&pipeline, |pipeline, is_helped| {
            pipeline.enrol_with(&picture, || is_helped.then_some(()))
        });
        for [alone, helped] in [probed, enrolled] {
            assert_eq!(alone.1, helped.1, "{}", vector.picture);
            let [alone, helped] = [alone.0, helped.0].map(|acquired| usable(acquired.unwrap()));
            assert!(alone.liveness.is_some());
            assert_eq!(alone.liveness, helped.liveness, "{}", vector.picture);
            assert_eq!(alone.embedding, helped.embedding, "{}", vector.picture);
            assert_eq!(alone.quality, helped.quality, "{}", vector.picture);
        }
    }
}

/// The detector's two looks and `SFace`; beside it dlib, and what is for liveness.
#[test]
fn without_help_nothing_is_begun_that_a_refusal_makes_needless() {
    let dark = altered(&photograph("astronaut.png"), |_, _, value| value / 6);
    let looked = both_ways(&with_liveness(true), |pipeline, is_helped| {
        pipeline.probe_with(&dark, || is_helped.then_some(()))
    });
    let passes = looked.map(|(acquired, passes)| {
        assert_eq!(refusal(acquired.unwrap()), QualityRefusal::TooDark);
        passes
    });
    assert_eq!(passes, [3, 5]);
}

#[test]
fn a_model_that_fails_beside_another_fails_the_picture_and_mends_no_refusal() {
    let pipeline = with_broken_liveness();
    let good = photograph("astronaut.png");
    let dark = altered(&good, |_, _, value| value / 6);
    let look = |picture: &DecodedImage| {
        both_ways(&pipeline, |pipeline, is_helped| {
            pipeline.probe_with(picture, || is_helped.then_some(()))
        })
    };
    for (acquired, _) in look(&good) {
        assert!(matches!(acquired, Err(FaceError::Impossible(_))), "{acquired:?}");
    }
    for (acquired, _) in look(&dark) {
        assert_eq!(refusal(acquired.unwrap()), QualityRefusal::TooDark);
    }
}

#[test]
fn a_covered_face_is_refused() {
    let good = photograph("astronaut.png");
    let face = PIPELINE.detect(&good).unwrap()[0];
    let [_, _, nose, ..] = face.landmarks.0;
    let masked = altered(&good, |x, y, value| {
        let covered = (y as f32) > nose.y - 12.0
            && (y as f32) < nose.y + 60.0
            && (x as f32 - nose.x).abs() < 60.0;
        if covered { 120 + ((x * 7 + y * 13) % 40) as u8 } else { value }
    });
    match PIPELINE.probe(&masked).unwrap() {
        Acquisition::Usable(probe) => panic!("{:?}", probe.quality),
        Acquisition::Refused(refusal) => println!("{refusal:?}"),
    }
}

/// `capture::decode`'s own tests cut a small picture at every byte; a photograph of 184 kB is cut
/// at every byte of its headers and of its end, and at every 251st between.
#[test]
fn a_truncated_photograph_is_refused() {
    let whole = photograph_bytes("obama2.jpg");
    let limits = DecodeLimits::default();
    let ends = (0..1_500).chain(whole.len() - 1_500..whole.len());
    for length in ends.chain((1_500..whole.len()).step_by(251)) {
        let cut = EncodedImage::new(whole[..length].to_vec());
        let Err(error) = decode(&cut, &limits) else { panic!("{length} bytes were decoded") };
        assert!(matches!(error, DecodeError::Truncated | DecodeError::Empty), "{length}: {error}");
    }
}

#[test]
fn a_model_that_was_tampered_with_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["manifest.toml", "sface.onnx", "dlib.onnx", "yunet.onnx"] {
        fs::copy(root().join("models").join(name), dir.path().join(name)).unwrap();
    }
    let path = dir.path().join("yunet.onnx");
    let mut bytes = fs::read(&path).unwrap();
    bytes[60_000] ^= 1;
    fs::write(&path, bytes).unwrap();
    let error = FacePipeline::load(dir.path()).unwrap_err();
    assert!(matches!(error, ManifestError::DigestMismatch { .. }), "{error}");
}

#[test]
fn a_liveness_model_in_its_slot_scores_as_onnxruntime_does() {
    let data = std::env::var_os("TULGA_EVAL_DIR")
        .map_or_else(|| root().join("../shared/data"), PathBuf::from);
    let models = data.join("models");
    if !models.join("minifasnet_v2_2.7.onnx").exists() {
        println!("skipped: no liveness models under {}; set TULGA_EVAL_DIR", data.display());
        return;
    }
    let pipeline = with_minifasnet(&models);
    assert!(pipeline.has_liveness());
    for vector in vectors() {
        let probe = usable(pipeline.probe(&photograph(&vector.picture)).unwrap());
        let liveness = probe.liveness.unwrap().get();
        println!("{} {liveness:.4} {:.4}", vector.picture, vector.liveness);
        assert!((liveness - vector.liveness).abs() < 0.03, "{}: {liveness}", vector.picture);
    }
}

/// The committed manifest with both liveness slots filled.
fn with_minifasnet(models: &Path) -> FacePipeline {
    let dir = tempfile::tempdir().unwrap();
    let mut manifest = fs::read_to_string(root().join("models/manifest.toml")).unwrap();
    for name in ["sface.onnx", "dlib.onnx", "yunet.onnx"] {
        let absolute = root().join("models").join(name);
        manifest = manifest
            .replace(&format!("path = \"{name}\""), &format!("path = \"{}\"", absolute.display()));
    }
    for (file, scale, sha256) in [
        (
            "minifasnet_v2_2.7.onnx",
            "2.7",
            "13ed9713f163bafc0cd1ba168e8229a10ca46be5e4e8f37fc5dc22fd28c11666",
        ),
        (
            "minifasnet_v1se_4.0.onnx",
            "4.0",
            "09864c43d50bbdbccb5c6f76fce02420a11262bbd9e61c36984973c8f897992d",
        ),
    ] {
        let path = models.join(file);
        let slot = format!(
            "\n[[liveness]]\nside_px = 80\ncrop_scale = {scale}\nlive_class = 1\n\n\
             [liveness.file]\npath = \"{}\"\nsha256 = \"{sha256}\"\norigin = \"test\"\n\
             licence = \"Apache-2.0\"\ncolour = \"bgr\"\nrange = [0.0, 255.0]\n",
            path.display()
        );
        manifest.push_str(&slot);
    }
    fs::write(dir.path().join("manifest.toml"), manifest).unwrap();
    assert_eq!(ModelManifest::load(dir.path()).unwrap().liveness.len(), 2);
    FacePipeline::load(dir.path()).unwrap()
}
