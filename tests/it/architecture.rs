//! The law of the rooms: who may import whom, and which foreign crate may be named where.
//!
//! Every path of every file is walked, in `use` trees and in line, `super::` and `self::` too. Test
//! modules are exempt. The walker is itself tested on planted breaches.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::Visit;

/// What each room may import beside `domain`, `clock` and `crypto`.
const LAW: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("clock", &[]),
    ("crypto", &[]),
    ("crowd", &[]),
    ("capture", &[]),
    ("inference", &[]),
    ("face", &["capture", "inference"]),
    ("fingerprint", &["capture", "inference"]),
    ("matching", &[]),
    ("interchange", &[]),
    ("policy", &[]),
    ("ledger", &[]),
    ("receipt", &["ledger"]),
    ("witness", &["ledger"]),
    ("audit", &["ledger", "receipt"]),
    ("verifier", &["ledger", "receipt"]),
    ("report", &["receipt"]),
    ("store", &[]),
    ("vault", &["store"]),
    ("synth", &["capture"]),
    ("evaluate", &["capture", "inference", "face", "fingerprint", "interchange", "matching"]),
    (
        "gateway",
        &[
            "capture",
            "face",
            "fingerprint",
            "interchange",
            "matching",
            "policy",
            "ledger",
            "receipt",
            "report",
            "store",
            "vault",
        ],
    ),
    ("pki", &["gateway"]),
    ("proto", &[]),
    ("grpc", &["crowd", "gateway", "proto", "pki", "capture", "store"]),
    ("web", &["crowd", "gateway", "witness", "ledger", "config"]),
    ("config", &["policy", "capture", "ledger"]),
    ("telemetry", &["config"]),
    ("app", ANY),
    ("cli", ANY),
    ("main", ANY),
];

/// The rooms that name everything.
const ANY: &[&str] = &["*"];

/// Where a foreign crate may be named; crates that are not listed may be named anywhere.
const FENCES: &[(&str, &[&str])] = &[
    ("ring", &["crypto"]),
    ("cryptoki", &["crypto"]),
    ("hpke", &["crypto"]),
    ("tract_onnx", &["inference"]),
    ("ndarray", &["inference", "face", "fingerprint"]),
    ("image", &["capture"]),
    ("rusqlite", &["store"]),
    ("cedar_policy", &["policy"]),
    ("rcgen", &["pki"]),
    ("x509_parser", &["pki", "grpc", "crypto"]),
    ("webpki", &["crypto"]),
    ("pki_types", &["crypto"]),
    ("hyper", &["web"]),
    ("hyper_util", &["web"]),
    ("http_body_util", &["web"]),
    ("tokio_rustls", &["web"]),
    ("tonic", &["grpc", "proto", "cli"]),
    ("tonic_types", &["grpc", "cli"]),
    ("prost", &["grpc", "proto", "inference", "cli"]),
    ("axum", &["grpc"]),
    ("anyhow", &["main", "cli", "app"]),
    ("clap", &["cli"]),
    ("tokio", &["gateway", "grpc", "store", "web", "app", "cli", "proto"]),
];

/// The rooms that every room may import.
const COMMON: [&str; 3] = ["domain", "clock", "crypto"];

#[test]
fn no_room_breaks_the_law() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut breaches = Vec::new();
    let mut files = 0;
    for file in rust_files(&root) {
        let place = place_of(file.strip_prefix(&root).unwrap());
        let text = fs::read_to_string(&file).unwrap();
        breaches.extend(
            breaches_of(&place, &text)
                .into_iter()
                .map(|what| format!("{}: {what}", file.display())),
        );
        files += 1;
    }
    assert!(files > 50, "only {files} files were walked");
    assert!(breaches.is_empty(), "\n{}", breaches.join("\n"));
}

#[test]
fn every_room_has_a_law_and_every_law_a_room() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let rooms: BTreeSet<String> = rust_files(&root)
        .iter()
        .filter_map(|file| place_of(file.strip_prefix(&root).unwrap()).into_iter().next())
        .filter(|room| room != "lib")
        .collect();
    let lawful: BTreeSet<String> = LAW.iter().map(|(room, _)| (*room).to_owned()).collect();
    assert_eq!(rooms, lawful);
}

#[test]
fn the_map_says_what_the_law_says() {
    let lib = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs");
    let map = fs::read_to_string(lib).unwrap();
    let drawn: BTreeSet<(&str, BTreeSet<&str>)> =
        map.lines().filter_map(|line| on_the_map(line.strip_prefix("//! | [`")?)).collect();
    let lawful = LAW.iter().filter(|(room, _)| *room != "main");
    assert_eq!(drawn, lawful.map(|(room, may)| (*room, may.iter().copied().collect())).collect());
}

/// A room and what it may import, of a line of the map.
fn on_the_map(line: &str) -> Option<(&str, BTreeSet<&str>)> {
    let (room, what_and_may) = line.split_once("`] | ")?;
    let (_, may) = what_and_may.split_once(" | ")?;
    if may.contains("everything") {
        return Some((room, ANY.iter().copied().collect()));
    }
    // Every second piece between backticks is a name.
    let names = may.split('`').skip(1).step_by(2);
    Some((room, names.filter(|name| !COMMON.contains(name)).collect()))
}

/// Vectors of three kernels, tiles of one, the call into code for wide registers, and the boundary to C with its tests.
const UNSAFE: [&str; 7] = [
    "face/raster/wide.rs",
    "inference/nhwc/simd.rs",
    "inference/nhwc/tiles.rs",
    "matching/minutiae/neighbourhood.rs",
    "matching/search/kernels.rs",
    "verifier/c.rs",
    "verifier/tests.rs",
];

#[test]
fn unsafe_stands_in_a_few_files_and_each_block_says_why() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    for file in rust_files(&root) {
        let text = fs::read_to_string(&file).unwrap();
        let name = file.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        let marks = has_unsafe(text.parse().unwrap());
        if marks > 0 {
            let reasons = text.matches("SAFETY:").count() + text.matches("# Safety").count();
            assert!(reasons > 0, "{name} has {marks} unsafe and gives no reason");
            found.push(name);
        }
    }
    assert_eq!(found, UNSAFE);
    assert_eq!(has_unsafe("fn f() { let unsafety = \"unsafe\"; }".parse().unwrap()), 0);
    assert_eq!(has_unsafe("fn f() { x(unsafe { y() }) }".parse().unwrap()), 1);
}

/// How often the word `unsafe` stands in code.
fn has_unsafe(tokens: TokenStream) -> usize {
    tokens
        .into_iter()
        .map(|token| match token {
            TokenTree::Ident(name) => usize::from(name == "unsafe"),
            TokenTree::Group(group) => has_unsafe(group.stream()),
            TokenTree::Punct(_) | TokenTree::Literal(_) => 0,
        })
        .sum()
}

#[test]
fn a_planted_breach_of_each_kind_is_caught() {
    let planted = [
        (&["matching"][..], "use crate::store::Store;"),
        (&["matching"], "use crate::{domain::id, store::{self}};"),
        (&["matching", "search"], "use super::super::store::Store;"),
        (&["matching"], "fn f() { let _ = crate::gateway::x(); }"),
        (&["matching"], "mod inner { use super::super::store::Store; }"),
        (&["matching"], "use ring::digest;"),
        (&["app"], "use cryptoki::context::Pkcs11;"),
        (&["matching"], "fn f() { ::ring::rand::x(); }"),
        (&["matching"], "use {std::fmt, tokio::sync};"),
        (&["receipt"], "fn f(x: &tonic::Status) {}"),
        (&["domain"], "use crate::policy::decide;"),
        (&["domain"], "use crate::clock::Clock;"),
        (&["crypto"], "use crate::clock::Clock;"),
        (&["matching"], "fn f() { let _ = vec![1, crate::store::x()]; }"),
        (&["matching"], "fn f() { assert!({ (2, ring::rand::x(y)) }); }"),
    ];
    for (place, text) in planted {
        let place: Vec<String> = place.iter().map(|part| (*part).to_owned()).collect();
        assert_eq!(breaches_of(&place, text).len(), 1, "{text}");
    }
    let lawful =
        "use crate::domain::id; use super::x; #[cfg(test)] mod tests { use ring::digest; }";
    assert_eq!(breaches_of(&["matching".to_owned()], lawful), Vec::<String>::new());
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The module path of a file: `store/sql/mod.rs` is `store, sql`.
fn place_of(file: &Path) -> Vec<String> {
    let mut parts: Vec<String> =
        file.with_extension("").iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    if parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    parts
}

fn breaches_of(place: &[String], text: &str) -> Vec<String> {
    let mut walker = Walker { place: place.to_vec(), breaches: Vec::new() };
    walker.visit_file(&syn::parse_file(text).unwrap());
    walker.breaches
}

struct Walker {
    place: Vec<String>,
    breaches: Vec<String>,
}

impl Walker {
    /// Judges one path, as it is written.
    fn judge(&mut self, path: &[String]) {
        let Some(room) = self.place.first().cloned() else { return };
        let mut parts = path.to_vec();
        let mut base: Option<Vec<String>> = None;
        while let Some(first) = parts.first().cloned() {
            match first.as_str() {
                "crate" | "tulga" => base = Some(Vec::new()),
                "self" => base = Some(base.unwrap_or_else(|| self.place.clone())),
                "super" => {
                    let mut above = base.unwrap_or_else(|| self.place.clone());
                    above.pop();
                    base = Some(above);
                }
                _ => break,
            }
            parts.remove(0);
        }
        if let Some(base) = base {
            let Some(target) = base.iter().chain(&parts).next().cloned() else { return };
            self.judge_room(&room, &target, path);
        } else if let Some(first) = parts.first() {
            let fence = FENCES.iter().find(|(foreign, _)| foreign == first);
            if fence.is_some_and(|(_, rooms)| !rooms.contains(&room.as_str())) && parts.len() > 1 {
                self.breaches.push(format!("{room} names {}", path.join("::")));
            }
        }
    }

    fn judge_room(&mut self, room: &str, target: &str, path: &[String]) {
        let is_room = LAW.iter().any(|(name, _)| *name == target);
        let allowed =
            LAW.iter().find(|(name, _)| *name == room).map_or(&[][..], |(_, allowed)| allowed);
        let lawful = !is_room
            || target == room
            || allowed == ANY
            || allowed.contains(&target)
            || (COMMON.contains(&target) && !COMMON.contains(&room))
            || (target == "domain" && COMMON.contains(&room));
        if !lawful {
            self.breaches.push(format!("{room} imports {}", path.join("::")));
        }
    }

    fn walk_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(name) if path.is_empty() || colons == 2 => {
                    path.push(name.to_string());
                    colons = 0;
                }
                TokenTree::Punct(mark) if mark.as_char() == ':' && !path.is_empty() => colons += 1,
                other => {
                    self.judge_run(&mut path);
                    colons = 0;
                    match other {
                        TokenTree::Ident(name) => path.push(name.to_string()),
                        TokenTree::Group(group) => self.walk_tokens(group.stream()),
                        TokenTree::Punct(_) | TokenTree::Literal(_) => {}
                    }
                }
            }
        }
        self.judge_run(&mut path);
    }

    /// A single name is no path into another room.
    fn judge_run(&mut self, path: &mut Vec<String>) {
        let run = std::mem::take(path);
        if run.len() > 1 {
            self.judge(&run);
        }
    }

    fn walk_use(&mut self, tree: &syn::UseTree, before: &mut Vec<String>) {
        match tree {
            syn::UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.walk_use(&path.tree, before);
                before.pop();
            }
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.walk_use(tree, before);
                }
            }
            syn::UseTree::Name(name) => {
                self.judge(&[before.clone(), vec![name.ident.to_string()]].concat());
            }
            syn::UseTree::Rename(name) => {
                self.judge(&[before.clone(), vec![name.ident.to_string()]].concat());
            }
            syn::UseTree::Glob(_) => self.judge(&[before.clone(), vec!["*".to_owned()]].concat()),
        }
    }
}

impl<'ast> Visit<'ast> for Walker {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let is_test = item.attrs.iter().any(|attribute| {
            attribute.path().is_ident("cfg")
                && attribute.parse_args::<syn::Ident>().is_ok_and(|condition| condition == "test")
        });
        if is_test || item.content.is_none() {
            return;
        }
        self.place.push(item.ident.to_string());
        syn::visit::visit_item_mod(self, item);
        self.place.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.walk_use(&item.tree, &mut Vec::new());
    }

    /// What a macro is given (`vec![crate::store::x()]`) is tokens, not syntax: paths are runs of names
    /// with `::` between them.
    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        self.judge(
            &item.path.segments.iter().map(|part| part.ident.to_string()).collect::<Vec<_>>(),
        );
        self.walk_tokens(item.tokens.clone());
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let parts: Vec<String> =
            path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.judge(&parts);
        syn::visit::visit_path(self, path);
    }
}
