//! Pictures of fingers: what is decoded here and what NIST's own code makes of the same files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tulga::capture::{DecodeLimits, FingerImageDeclaration, GreyImage, decode_finger};

use crate::process::has;

fn decoded(file: &Path) -> GreyImage {
    let declared = FingerImageDeclaration { pixels_per_inch: Some(500), ..Default::default() };
    let image = decode_finger(&fs::read(file).unwrap(), &declared, &DecodeLimits::for_fingers());
    image.unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn has_reference() -> bool {
    let how = "get it with: pip install wsq pillow numpy";
    has("python3", &["-c", "import wsq, PIL, numpy"], how)
}

/// Runs the reference over `files`, or over pictures of its own, and leaves its pixels in `out`.
fn reference(out: &Path, files: &[PathBuf]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign/wsq_reference.py");
    let output = Command::new("python3")
        .arg(script)
        .arg(out)
        .args(files)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn with_suffix(dir: &Path, suffix: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|end| end == suffix)).collect();
    files.sort();
    files
}

/// Of each file all but one pixel in a thousand must be within one grey level of the reference.
fn agree_with_reference(files: &[PathBuf], out: &Path) {
    let (mut pixels, mut equal) = (0, 0);
    for file in files {
        let image = decoded(file);
        let name = file.with_extension("raw");
        let expected = fs::read(out.join(name.file_name().unwrap())).unwrap();
        assert_eq!(image.pixels().len(), expected.len(), "{}", file.display());
        let differences = image.pixels().iter().zip(&expected).map(|(a, b)| a.abs_diff(*b));
        let off = differences.clone().filter(|difference| *difference > 1).count();
        assert!(off * 1_000 <= expected.len(), "{}: {off}", file.display());
        pixels += expected.len();
        equal += differences.filter(|difference| *difference == 0).count();
    }
    println!("{} files: {equal} of {pixels} pixels are equal to the reference's", files.len());
}

#[test]
fn wsq_pictures_are_decoded_as_nists_own_code_decodes_them() {
    if !has_reference() {
        return;
    }
    let out = tempfile::tempdir().unwrap();
    reference(out.path(), &[]);
    let files = with_suffix(out.path(), "wsq");
    assert!(files.len() >= 7, "{}", files.len());
    agree_with_reference(&files, out.path());
}

#[test]
fn wsq_fingers_of_the_evaluation_data_are_decoded_as_nists_own_code_decodes_them() {
    let dir = tempfile::tempdir().unwrap();
    let Some(pack) = pack(dir.path()) else { return };
    if !has_reference() {
        return;
    }
    let files = with_suffix(&pack.join("fvc2000_db1_b/wsq"), "wsq");
    assert_eq!(files.len(), 80);
    reference(dir.path(), &files);
    agree_with_reference(&files, dir.path());
}

#[test]
fn every_picture_of_the_evaluation_data_is_decoded() {
    let dir = tempfile::tempdir().unwrap();
    let Some(pack) = pack(dir.path()) else { return };
    let folders = [
        ("fvc2000_db1_b/tif", "tif", 80),
        ("fvc2002_db1_b", "tif", 80),
        ("fvc2004_db1_b", "tif", 80),
        // Their files say a screen's 96 pixels an inch; 500 is declared.
        ("upek", "png", 128),
    ];
    for (folder, suffix, count) in folders {
        let files = with_suffix(&pack.join(folder), suffix);
        assert_eq!(files.len(), count, "{folder}");
        for file in files {
            let image = decoded(&file);
            assert_eq!(image.pixels_per_inch(), 500);
            let (darkest, brightest) = (image.pixels().iter().min(), image.pixels().iter().max());
            assert!(darkest.unwrap() + 64 < *brightest.unwrap(), "{} is flat", file.display());
        }
    }
}

/// The folder of the fingerprint development pack; an archive is unpacked below `dir`.
fn pack(dir: &Path) -> Option<PathBuf> {
    let data = std::env::var_os("TULGA_EVAL_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
        PathBuf::from,
    );
    let (archive, folder) = (data.join("finger-dev-pack.tar.xz"), data.join("finger-dev-pack"));
    if folder.is_dir() {
        return Some(folder);
    }
    if !archive.is_file() {
        eprintln!("skipped: no finger-dev-pack in {}; set TULGA_EVAL_DIR", data.display());
        return None;
    }
    let mut tar = Command::new("tar");
    tar.arg("-xf").arg(&archive).arg("-C").arg(dir);
    assert!(tar.status().unwrap().success(), "{} does not unpack", archive.display());
    Some(dir.join("finger-dev-pack"))
}
