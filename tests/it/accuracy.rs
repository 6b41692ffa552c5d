//! Error rates, through the command that everybody has: on the public photographs always, and on a
//! part of the evaluation data where there is such data.
//!
//! The part keeps the test short. The bars on the whole are in `docs/accuracy.md`, with the command.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::process::photograph;

/// Every so many-th person with two pictures or more.
const PART: usize = 8;

#[test]
fn the_report_of_an_evaluation_has_both_tables() {
    let dir = tempfile::tempdir().unwrap();
    let people = [
        ("a", &["obama.jpg", "obama2.jpg", "obama3.jpg"][..]),
        ("b", &["biden.jpg"]),
        ("c", &["astronaut.png"]),
    ];
    for (person, pictures) in people {
        fs::create_dir(dir.path().join(person)).unwrap();
        for picture in pictures {
            fs::copy(photograph(picture), dir.path().join(person).join(picture)).unwrap();
        }
    }
    let report = evaluated(dir.path());
    for (field, value) in [("images", 5), ("identities", 3), ("genuine", 3), ("impostor", 7)] {
        assert_eq!(report[field], value, "{field}");
    }
    assert_eq!(report["fta"], 0.0);
    // Three people who look nothing alike, each found again.
    assert_eq!(report["eer"], 0.0);
    assert_eq!(report["fnmr"]["1e-4"], 0.0);
    assert!(report["gateway"]["fta"].is_number(), "{report}");
}

#[test]
fn error_rates_on_evaluation_data_stay_where_they_were() {
    let Some(pack) = Pack::find() else { return };
    let dir = tempfile::tempdir().unwrap();
    let images = pack.images(dir.path());
    let part = dir.path().join("part");
    fs::create_dir(&part).unwrap();
    let mut people: Vec<PathBuf> =
        fs::read_dir(&images).unwrap().map(|entry| entry.unwrap().path()).collect();
    people.sort();
    people.retain(|person| fs::read_dir(person).unwrap().count() > 1);
    for person in people.iter().step_by(PART) {
        symlink(person, part.join(person.file_name().unwrap())).unwrap();
    }
    let report = evaluated(&part);
    let number = |value: &Value| value.as_f64().unwrap();
    println!(
        "{} pictures of {} people: FTA {}, EER {}, FNMR {}",
        report["images"], report["identities"], report["fta"], report["eer"], report["fnmr"]
    );
    assert!(number(&report["images"]) > 150.0, "{}", report["images"]);
    assert!(number(&report["fta"]) < f64::EPSILON);
    // A part of the pack scatters more than the whole, for which the bars are 0.45 % and 2.1 %.
    assert!(number(&report["eer"]) <= 0.010, "{}", report["eer"]);
    assert!(number(&report["fnmr"]["1e-3"]) <= 0.025, "{}", report["fnmr"]);
}

fn evaluated(dir: &Path) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_tulga"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["evaluate", "face", "--json", "--draws", "40"])
        .arg(dir)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The face development pack, as it is handed out or unpacked.
enum Pack {
    Archive(PathBuf),
    Folder(PathBuf),
}

impl Pack {
    fn find() -> Option<Self> {
        let data = std::env::var_os("TULGA_EVAL_DIR").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
            PathBuf::from,
        );
        let (archive, folder) = (data.join("face-dev-pack.tar"), data.join("face-dev-pack"));
        if folder.is_dir() {
            Some(Self::Folder(folder))
        } else if archive.is_file() {
            Some(Self::Archive(archive))
        } else {
            eprintln!("skipped: no face-dev-pack in {}; set TULGA_EVAL_DIR", data.display());
            None
        }
    }

    /// The folder of one folder a person; an archive is unpacked below `dir`.
    fn images(&self, dir: &Path) -> PathBuf {
        let folder = match self {
            Self::Folder(folder) => folder.clone(),
            Self::Archive(archive) => {
                let mut tar = Command::new("tar");
                tar.arg("-xf").arg(archive).arg("-C").arg(dir);
                assert!(tar.status().unwrap().success(), "{} does not unpack", archive.display());
                dir.join("face-dev-pack")
            }
        };
        folder.join("lfw/images")
    }
}
