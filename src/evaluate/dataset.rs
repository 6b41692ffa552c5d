//! A folder of labelled pictures: `DIR/<identity>/<image>`.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Most pictures of one evaluation: their cross pairs are held in memory, 12 bytes each.
pub const IMAGES_MAX: usize = 12_000;

/// Labelled pictures, in the order of their names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dataset {
    images: Vec<LabelledImage>,
    identities: u32,
}

/// A picture and whose it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LabelledImage {
    /// Where the file lies.
    pub path: PathBuf,
    /// Position of its identity in the data set.
    pub identity: u32,
}

/// A folder with which nothing can be measured. Each says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// The folder, or one in it, cannot be read.
    #[error("{} cannot be read; check the path and its permissions", path.display())]
    Unreadable {
        /// Which folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No pictures in identities' folders.
    #[error(
        "{} holds no pictures of the form <identity>/<image>.jpg (or .jpeg, .png); \
         make one folder for each person and put the person's pictures into it",
        path.display()
    )]
    NoImages {
        /// Which folder.
        path: PathBuf,
    },
    /// No prints.
    #[error(
        "{} holds no prints of the form <finger>_<impression>.png (or .tif, .bmp, .wsq, .fir; .iso or .fmr \
         for records)",
        path.display()
    )]
    NoPrints {
        /// Which folder.
        path: PathBuf,
    },
    /// Two files of one impression.
    #[error(
        "{} holds two files of a finger's impression {impression}; keep one",
        path.display()
    )]
    PrintTwice {
        /// Which folder.
        path: PathBuf,
        /// Which impression.
        impression: u32,
    },
    /// One folder of pictures only.
    #[error(
        "{} holds pictures of one identity only; false matches can be counted only with pictures \
         of two people or more, one folder each",
        path.display()
    )]
    OneIdentity {
        /// Which folder.
        path: PathBuf,
    },
    /// Nobody has two pictures.
    #[error(
        "nobody in {} has two pictures; false non-matches can be counted only when somebody has, \
         so add second pictures",
        path.display()
    )]
    NobodyTwice {
        /// Which folder.
        path: PathBuf,
    },
    /// Over [`IMAGES_MAX`].
    #[error("{} holds more than {IMAGES_MAX} pictures; evaluate a part of them", path.display())]
    TooMany {
        /// Which folder.
        path: PathBuf,
    },
}

impl DatasetError {
    /// The stable word for logs and metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        "EVAL_DATASET"
    }
}

impl Dataset {
    /// Lists the pictures of a folder; none is opened. Hidden files, and files that are not named
    /// as JPEG or PNG, are passed over; a folder without pictures is no identity.
    ///
    /// # Errors
    ///
    /// [`DatasetError`] when a folder cannot be read, or when no genuine or no impostor comparison
    /// can be made.
    pub fn scan(dir: &Path) -> Result<Self, DatasetError> {
        let mut images = Vec::new();
        let mut identities = 0u32;
        let mut anybody_twice = false;
        for folder in entries(dir)?.into_iter().filter(|path| path.is_dir()) {
            let pictures: Vec<_> =
                entries(&folder)?.into_iter().filter(|path| is_picture(path)).collect();
            if pictures.is_empty() {
                continue;
            }
            if images.len() + pictures.len() > IMAGES_MAX {
                return Err(DatasetError::TooMany { path: dir.to_owned() });
            }
            anybody_twice |= pictures.len() > 1;
            let label = |path| LabelledImage { path, identity: identities };
            images.extend(pictures.into_iter().map(label));
            identities += 1;
        }
        match identities {
            0 => Err(DatasetError::NoImages { path: dir.to_owned() }),
            1 => Err(DatasetError::OneIdentity { path: dir.to_owned() }),
            _ if !anybody_twice => Err(DatasetError::NobodyTwice { path: dir.to_owned() }),
            _ => Ok(Self { images, identities }),
        }
    }

    /// The pictures, one identity after the other.
    #[must_use]
    pub fn images(&self) -> &[LabelledImage] {
        &self.images
    }

    /// How many people there are.
    #[must_use]
    pub const fn identities(&self) -> u32 {
        self.identities
    }
}

/// What a folder holds, hidden entries left out, in the order of names.
pub(super) fn entries(dir: &Path) -> Result<Vec<PathBuf>, DatasetError> {
    let unreadable = |source| DatasetError::Unreadable { path: dir.to_owned(), source };
    let mut paths = fs::read_dir(dir)
        .map_err(unreadable)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(unreadable)?;
    paths.retain(|path| {
        path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b"."))
    });
    paths.sort_unstable();
    Ok(paths)
}

fn is_picture(path: &Path) -> bool {
    let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    ["jpg", "jpeg", "png"].iter().any(|known| extension.eq_ignore_ascii_case(known))
        && path.is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with empty files at these paths.
    fn folder(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"").unwrap();
        }
        dir
    }

    fn refused(files: &[&str]) -> String {
        Dataset::scan(folder(files).path()).unwrap_err().to_string()
    }

    #[test]
    fn pictures_are_labelled_by_their_folders_in_the_order_of_names() {
        let dir = folder(&[
            "b/2.JPG",
            "b/1.png",
            "a/1.jpeg",
            "c/notes.txt",
            ".git/x.png",
            "a/.x.png",
            "top.png",
        ]);
        let found = Dataset::scan(dir.path()).unwrap();
        let shown: Vec<_> = found
            .images()
            .iter()
            .map(|image| (image.path.strip_prefix(dir.path()).unwrap(), image.identity))
            .collect();
        let expected = [("a/1.jpeg", 0), ("b/1.png", 1), ("b/2.JPG", 1)];
        assert_eq!(shown, expected.map(|(path, identity)| (Path::new(path), identity)));
        assert_eq!(found.identities(), 2);
    }

    #[test]
    fn a_folder_that_cannot_be_measured_is_refused_with_a_remedy() {
        assert!(refused(&[]).contains("make one folder for each person"));
        assert!(refused(&["1.png", "2.png"]).contains("make one folder for each person"));
        assert!(refused(&["a/notes.txt"]).contains("make one folder for each person"));
        assert!(refused(&["a/1.png", "a/2.png"]).contains("one identity only"));
        assert!(refused(&["a/1.png", "b/1.png"]).contains("add second pictures"));
        let missing = Dataset::scan(Path::new("no/such/folder")).unwrap_err();
        assert!(matches!(missing, DatasetError::Unreadable { .. }));
    }
}
