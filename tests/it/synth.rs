//! `tulga synth`: prints of nobody, as a person makes them.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tulga::capture::{DecodeLimits, EncodedImage, decode};

#[test]
fn prints_have_their_names_their_resolution_and_the_same_bytes_again() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("a"), dir.path().join("b"));
    let output = synth(&first, &["--seed", "4", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&said["fingers"], &said["pictures"]), (&2.into(), &4.into()));
    let classes = said["classes"].as_object().unwrap().values();
    assert_eq!(classes.map(|count| count.as_u64().unwrap()).sum::<u64>(), 2);
    let mut names: Vec<_> = fs::read_dir(&first)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["1_1.png", "1_2.png", "2_1.png", "2_2.png"]);
    assert!(synth(&second, &["--seed", "4"]).status.success());
    for name in names {
        let file = fs::read(first.join(&name)).unwrap();
        let limits = DecodeLimits { side_px_min: 1, ..DecodeLimits::default() };
        let picture = decode(&EncodedImage::new(file.clone()), &limits).unwrap();
        assert_eq!((picture.width(), picture.height()), (320, 416));
        // 19685 pixels a metre are 500 an inch.
        assert!(file.windows(13).any(|part| part == b"pHYs\0\0\x4c\xe5\0\0\x4c\xe5\x01"));
        assert!(file == fs::read(second.join(&name)).unwrap(), "{name} differs");
    }
    let other = dir.path().join("c");
    assert!(synth(&other, &["--seed", "5"]).status.success());
    assert!(fs::read(other.join("1_1.png")).unwrap() != fs::read(first.join("1_1.png")).unwrap());
}

#[test]
fn a_folder_that_holds_something_is_left_alone_without_force() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("1_1.png"), "kept").unwrap();
    let refused = synth(dir.path(), &[]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(64), "{said}");
    assert!(said.contains("not empty") && said.contains("--force"), "{said}");
    assert_eq!(fs::read(dir.path().join("1_1.png")).unwrap(), b"kept");
    assert!(synth(dir.path(), &["--force", "--ppi", "250"]).status.success());
    let file = fs::read(dir.path().join("1_1.png")).unwrap();
    // 160 by 208 pixels, in the header.
    assert_eq!(file[16..24], [0, 0, 0, 160, 0, 0, 0, 208]);
}

#[test]
fn numbers_that_make_no_prints_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for wrong in [["--ids", "0"], ["--impressions", "0"], ["--ppi", "100"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_tulga"))
            .args(["synth", "finger", "--out"])
            .arg(dir.path())
            .args(if wrong[0] == "--ids" { &[][..] } else { &["--ids", "1"] })
            .args(wrong)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(64), "{wrong:?}");
    }
}

fn synth(out: &Path, options: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tulga"))
        .args(["synth", "finger", "--ids", "2", "--impressions", "2", "--out"])
        .arg(out)
        .args(options)
        .output()
        .unwrap()
}
