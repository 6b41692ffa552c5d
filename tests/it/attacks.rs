//! The threat model of `SECURITY.md`: every attacker has a line, and every line names tests that are there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use syn::visit::Visit;

/// The names of test functions as the threat model writes them: `module::function`.
#[derive(Default)]
struct Tests {
    module: String,
    found: BTreeSet<String>,
}

impl<'ast> Visit<'ast> for Tests {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        let is_test = |attribute: &syn::Attribute| {
            let last = attribute.path().segments.last();
            last.is_some_and(|segment| segment.ident == "test")
        };
        if item.attrs.iter().any(is_test) {
            self.found.insert(format!("{}::{}", self.module, item.sig.ident));
        }
    }
}

fn collect(dir: &Path, tests: &mut Tests) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, tests);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let stem = path.file_stem().unwrap();
            let module = if stem == "mod" { dir.file_name().unwrap() } else { stem };
            tests.module = module.to_string_lossy().into_owned();
            tests.visit_file(&syn::parse_file(&fs::read_to_string(&path).unwrap()).unwrap());
        }
    }
}

/// What stands between backticks in a cell.
fn named(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

#[test]
fn every_line_of_the_threat_model_names_tests_that_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tests = Tests::default();
    collect(&root.join("tests/it"), &mut tests);
    assert!(
        tests.found.contains("attacks::every_line_of_the_threat_model_names_tests_that_are_there")
    );
    let text = fs::read_to_string(root.join("SECURITY.md")).unwrap();
    let table = text.split_once("| attacker |").unwrap().1;
    let rows: Vec<_> = table.lines().skip(2).take_while(|line| line.starts_with('|')).collect();
    assert!(rows.len() >= 19, "{} attackers", rows.len());
    for row in rows {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [attacker, stops, leaves, shown] = cells[..] else { panic!("not four cells: {row}") };
        assert!(!stops.is_empty() && !leaves.is_empty(), "{attacker}: half a line");
        assert!(named(shown).count() > 0, "{attacker}: no test shows it");
        for name in named(shown) {
            assert!(tests.found.contains(name), "{attacker}: there is no test {name}");
        }
    }
}
