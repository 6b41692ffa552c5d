//! Finger templates of another vendor, and `tulga template`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tulga::domain::embedding::ModelId;
use tulga::domain::finger::{FingerPosition, FingerView, Minutia, MinutiaKind};
use tulga::interchange::{ExportedView, Maker, MinutiaeRecord, RecordFormat};

/// The templates were made from pictures that their maker had squeezed to 300 by 400 pixels, and say
/// 197 pixels a centimetre all the same: they can be compared with each other only.
#[test]
fn templates_of_another_vendor_come_back_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let Some(pack) = finger_pack(dir.path()) else { return };
    let maker = Maker::new("pack").unwrap();
    let mut count = 0;
    for set in ["fvc2002_db1_b", "fvc2004_db1_b"] {
        for entry in fs::read_dir(pack.join(set)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "iso") {
                continue;
            }
            let bytes = fs::read(&path).unwrap();
            let record = MinutiaeRecord::parse(&bytes)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert!(record.to_bytes().as_slice() == bytes, "{} changed", path.display());
            assert_eq!(record.format(), RecordFormat::Iso2005);
            assert_eq!((record.size_px(), record.pixels_per_cm()), ([300, 400], [197; 2]));
            let views = record.finger_views(&maker).unwrap();
            assert_eq!(views.len(), 1);
            let minutiae = views[0].view.minutiae();
            assert_eq!(minutiae.len(), record.views()[0].minutiae().len());
            assert!(minutiae.iter().all(|it| it.x() < 300.0 && it.y() < 400.0));
            count += 1;
        }
    }
    assert_eq!(count, 160);
}

#[test]
fn a_record_is_shown_without_its_places() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("finger.iso");
    fs::write(&path, &*record().to_bytes()).unwrap();
    let shown = shown(&path, &["--json"]);
    assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
    let said: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(said["format"], "iso-19794-2-2005");
    assert_eq!(said["pixels_per_cm"], serde_json::json!([197, 197]));
    assert_eq!(said["views"].as_array().unwrap().len(), 2);
    assert_eq!(said["views"][1]["position"], "left-thumb");
    assert_eq!(said["views"][1]["minutiae"], 3);
    assert_eq!(said["views"][1]["bifurcations"], 1);
    assert_eq!(said["views"][0]["quality"], 71);
    let text = String::from_utf8(self::shown(&path, &[]).stdout).unwrap();
    assert!(text.contains("left-thumb") && text.contains("300 by 400"), "{text}");
    for place in ["223", "317"] {
        assert!(!said.to_string().contains(place) && !text.contains(place), "{text}");
    }
}

#[test]
fn what_is_no_record_is_refused_with_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = record().to_bytes();
    for (name, bytes, exit, word) in [
        ("cut", &bytes[..bytes.len() - 1], 1, "export it again"),
        ("picture", b"\x89PNG\r\n\x1a\n", 1, "ISO/IEC 19794-2:2005"),
        ("2011", b"FMR\x00030\0\0\0\0\0", 1, "another edition"),
        ("large", &vec![b'F'; 70_000], 1, "65535"),
    ] {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        let output = shown(&path, &[]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(exit), "{name}: {said}");
        assert!(said.contains(word), "{name}: {said}");
    }
    let missing = shown(&dir.path().join("missing"), &[]);
    assert_eq!(missing.status.code(), Some(64));
}

fn shown(path: &Path, options: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tulga"))
        .args(["template", "show"])
        .arg(path)
        .args(options)
        .output()
        .unwrap()
}

fn record() -> MinutiaeRecord {
    let view = |places: &[(f32, f32, MinutiaKind)]| {
        let minutiae =
            places.iter().map(|&(x, y, kind)| Minutia::new(x, y, 1.0, kind, 0.5).unwrap());
        FingerView::new(ModelId::new([9; 32]), minutiae.collect())
    };
    let (ending, fork) = (MinutiaKind::Ending, MinutiaKind::Bifurcation);
    let index = view(&[(223.0, 317.0, ending)]);
    let thumb = view(&[(223.0, 31.0, ending), (80.0, 317.0, fork), (90.0, 90.0, ending)]);
    let exported =
        |position, quality, view| ExportedView { position: Some(position), quality, view };
    let views = [
        exported(FingerPosition::RightIndex, Some(71), &index),
        exported(FingerPosition::LeftThumb, None, &thumb),
    ];
    MinutiaeRecord::of_views([300, 400], 197, &views).unwrap()
}

/// The finger development pack, unpacked below `dir` where it is an archive.
fn finger_pack(dir: &Path) -> Option<PathBuf> {
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
