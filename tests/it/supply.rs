//! The bill of materials names what the binary is made of, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::process::has;

fn bill() -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new("python3").arg(".ci/sbom").current_dir(root).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn the_bill_of_materials_is_whole_and_the_same_twice() {
    let how = "get it with: apt-get install python3 (3.11 or later)";
    if !has("python3", &["-c", "import tomllib"], how) {
        return;
    }
    let bytes = bill();
    assert!(bytes == bill(), "the same commit gives the same bytes");
    let bill: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!((&bill["bomFormat"], &bill["specVersion"]), (&"CycloneDX".into(), &"1.5".into()));
    let listed: BTreeMap<&str, &Value> = bill["components"]
        .as_array()
        .unwrap()
        .iter()
        .map(|component| (component["bom-ref"].as_str().unwrap(), component))
        .collect();
    assert!(listed.len() > 200, "{} packages", listed.len());
    for (name, component) in &listed {
        assert_eq!(component["hashes"][0]["content"].as_str().unwrap().len(), 64, "{name}");
        assert!(component["licenses"][0]["expression"].is_string(), "{name}");
    }
    let has = |name: &str| listed.keys().any(|it| it.starts_with(&format!("pkg:cargo/{name}@")));
    // Linked, linked below something else, and run by the build.
    for needed in ["tonic", "h2", "ring", "tract-core", "libsqlite3-sys", "protox", "cc"] {
        assert!(has(needed), "{needed} is missing");
    }
    // Tests only, and another system's.
    for not in ["criterion", "proptest", "ct-merkle", "windows-sys"] {
        assert!(!has(not), "{not} is in no binary");
    }
    let dependencies = bill["dependencies"].as_array().unwrap();
    let known: BTreeSet<&str> = listed.keys().copied().chain(["pkg:cargo/tulga@0.1.0"]).collect();
    assert_eq!(dependencies.len(), known.len());
    let needed = dependencies.iter().flat_map(|it| it["dependsOn"].as_array().unwrap());
    assert!(needed.into_iter().all(|it| known.contains(it.as_str().unwrap())));
}
