//! Folders of prints: `DIR/<finger>_<impression>.<ext>`, as the FVC competitions name them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::super::dataset::{DatasetError, IMAGES_MAX, entries};

/// What is taken from a folder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PrintFiles {
    /// Pictures.
    Pictures,
    /// ISO/IEC 19794-2 records of another system.
    Records,
}

impl PrintFiles {
    const fn extensions(self) -> &'static [&'static str] {
        match self {
            Self::Pictures => &["png", "tif", "tiff", "bmp", "wsq", "fir"],
            Self::Records => &["iso", "fmr"],
        }
    }
}

/// Prints of one folder: of one sensor, compared among themselves only.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PrintSet {
    /// The folder's name.
    pub name: String,
    /// Its prints, a finger after the other.
    pub prints: Vec<LabelledPrint>,
    /// How many fingers there are.
    pub fingers: u32,
}

/// A print, and which one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LabelledPrint {
    /// Where the file lies.
    pub path: PathBuf,
    /// Position of its finger in the set.
    pub finger: u32,
}

impl PrintSet {
    /// Lists the prints of a folder; none is opened. Hidden files, and files of another kind, are passed
    /// over.
    ///
    /// # Errors
    ///
    /// [`DatasetError`] when the folder cannot be read, or when no genuine or no impostor comparison can
    /// be made.
    pub fn scan(dir: &Path, files: PrintFiles) -> Result<Self, DatasetError> {
        let mut fingers: BTreeMap<(usize, String), BTreeMap<u32, PathBuf>> = BTreeMap::new();
        let mut count = 0;
        for path in entries(dir)?.into_iter().filter(|path| path.is_file()) {
            let Some((finger, impression)) = label(&path, files) else { continue };
            // By length before text, so that 2 comes before 10.
            let key = (finger.len(), finger);
            if fingers.entry(key).or_default().insert(impression, path).is_some() {
                return Err(DatasetError::PrintTwice { path: dir.to_owned(), impression });
            }
            count += 1;
            if count > IMAGES_MAX {
                return Err(DatasetError::TooMany { path: dir.to_owned() });
            }
        }
        if fingers.is_empty() {
            return Err(DatasetError::NoPrints { path: dir.to_owned() });
        }
        if fingers.len() == 1 {
            return Err(DatasetError::OneIdentity { path: dir.to_owned() });
        }
        if fingers.values().all(|impressions| impressions.len() < 2) {
            return Err(DatasetError::NobodyTwice { path: dir.to_owned() });
        }
        let name = dir.canonicalize().ok();
        let name = name.as_deref().unwrap_or(dir).file_name().unwrap_or(dir.as_os_str());
        let prints = (0..).zip(fingers.values()).flat_map(|(finger, impressions)| {
            impressions.values().map(move |path| LabelledPrint { path: path.clone(), finger })
        });
        Ok(Self {
            name: name.to_string_lossy().into_owned(),
            prints: prints.collect(),
            fingers: u32::try_from(fingers.len()).unwrap_or(u32::MAX),
        })
    }
}

/// The finger and the number of its impression, by the file's name.
fn label(path: &Path, files: PrintFiles) -> Option<(String, u32)> {
    let extension = path.extension().and_then(OsStr::to_str)?;
    let is_known = |known: &&str| extension.eq_ignore_ascii_case(known);
    if !files.extensions().iter().any(is_known) {
        return None;
    }
    let (finger, impression) = path.file_stem()?.to_str()?.rsplit_once('_')?;
    Some((finger.to_owned(), impression.parse().ok()?)).filter(|_| !finger.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            std::fs::write(dir.path().join(file), b"").unwrap();
        }
        dir
    }

    fn refused(files: &[&str]) -> String {
        PrintSet::scan(folder(files).path(), PrintFiles::Pictures).unwrap_err().to_string()
    }

    #[test]
    fn prints_are_labelled_by_their_names() {
        let names = ["10_1.png", "2_2.TIF", "2_1.wsq", "a_b_3.bmp", "2_1.iso", "x.png", "2_x.png"];
        let dir = folder(&names);
        let set = PrintSet::scan(dir.path(), PrintFiles::Pictures).unwrap();
        let shown: Vec<_> = set
            .prints
            .iter()
            .map(|print| (print.path.file_name().unwrap().to_str().unwrap(), print.finger))
            .collect();
        assert_eq!(shown, [("2_1.wsq", 0), ("2_2.TIF", 0), ("10_1.png", 1), ("a_b_3.bmp", 2)]);
        assert_eq!(set.fingers, 3);
        let records = PrintSet::scan(dir.path(), PrintFiles::Records);
        assert!(matches!(records, Err(DatasetError::OneIdentity { .. })));
    }

    #[test]
    fn a_folder_that_cannot_be_measured_is_refused_with_a_remedy() {
        assert!(refused(&["notes.txt"]).contains("<finger>_<impression>"));
        assert!(refused(&["1_1.png", "1_2.png"]).contains("one identity only"));
        assert!(refused(&["1_1.png", "2_1.png"]).contains("add second pictures"));
        assert!(refused(&["1_1.png", "1_1.tif", "2_1.png"]).contains("impression 1"));
    }
}
