//! Against Debian's `softhsm2`. A module reads its configuration from the environment of its process, so
//! each test runs itself again in a process with tokens of its own.

use std::process::Command;

use super::super::SystemEntropy;
use super::*;

const PIN: &str = "987654";
const LABEL: &str = "tulga test";
const WITHIN: &str = "TULGA_SOFTHSM_WITHIN";

fn module() -> Option<PathBuf> {
    let places = [
        "/usr/lib/softhsm/libsofthsm2.so".to_owned(),
        format!("/usr/lib/{}-linux-gnu/softhsm/libsofthsm2.so", std::env::consts::ARCH),
    ];
    places.into_iter().map(PathBuf::from).find(|path| path.exists())
}

/// Runs `body` in a process of its own, in the test `name` of this file.
fn with_token(name: &str, body: impl FnOnce(&Path)) {
    let Some(module) = module() else {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "softhsm2 is not installed");
        eprintln!("skipped: softhsm2 is not installed (apt-get install softhsm2)");
        return;
    };
    if std::env::var_os(WITHIN).is_some() {
        return body(&module);
    }
    let dir = tempfile::tempdir().unwrap();
    let (conf, tokens) = (dir.path().join("softhsm2.conf"), dir.path().join("tokens"));
    std::fs::create_dir(&tokens).unwrap();
    std::fs::write(&conf, format!("directories.tokendir = {}\n", tokens.display())).unwrap();
    let made = Command::new("softhsm2-util")
        .args(["--init-token", "--free", "--label", LABEL, "--so-pin", "12345678", "--pin", PIN])
        .env("SOFTHSM2_CONF", &conf)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let again = Command::new(std::env::current_exe().unwrap())
        .args([&format!("crypto::pkcs11::tests::{name}"), "--exact", "--nocapture"])
        .env("SOFTHSM2_CONF", &conf)
        .env(WITHIN, "1")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&again.stdout);
    let errors = String::from_utf8_lossy(&again.stderr);
    assert!(again.status.success() && told.contains("1 passed"), "{told}{errors}");
}

fn open(module: &Path) -> Arc<Token> {
    Token::open(module, LABEL, pin(PIN)).unwrap()
}

fn pin(pin: &str) -> Zeroizing<String> {
    Zeroizing::new(pin.to_owned())
}

#[test]
fn keys_of_both_kinds_sign_in_the_token_and_verify_outside() {
    with_token("keys_of_both_kinds_sign_in_the_token_and_verify_outside", |module| {
        let token = open(module);
        for kind in [KeyKind::Ed25519, KeyKind::P256] {
            let key = token.generate("receipt-1", kind, &SystemEntropy).unwrap();
            let public = key.public_key();
            assert_eq!(public.kind(), kind);
            let signature = key.sign(b"a receipt").unwrap();
            assert_eq!(signature.len(), 64);
            assert_eq!(public.verify(b"a receipt", &signature), Ok(()));
            assert!(public.verify(b"another", &signature).is_err());
            // After a restart it is found again.
            let again = open(module).key("receipt-1", &public).unwrap();
            assert_eq!(public.verify(b"m", &again.sign(b"m").unwrap()), Ok(()));
        }
        // Both have one label; the public half tells them apart.
        assert_eq!(token.public_keys("receipt-1").unwrap().len(), 2);
        let strange = PublicKey::new([7; 32]);
        for (label, public) in
            [("receipt-1", strange), ("receipt-9", token.public_keys("receipt-1").unwrap()[0])]
        {
            let missing = token.key(label, &public).unwrap_err();
            assert_eq!(missing.code(), "KEY_TOKEN_KEY");
            assert!(missing.to_string().contains(label), "{missing}");
        }
    });
}

#[test]
fn a_private_half_never_leaves_the_token() {
    with_token("a_private_half_never_leaves_the_token", |module| {
        let token = open(module);
        token.generate("root", KeyKind::P256, &SystemEntropy).unwrap();
        let held = token.session().unwrap();
        let (session, _) = held.open().unwrap();
        let found = token.objects(session, ObjectClass::PRIVATE_KEY, "root", None).unwrap();
        let asked = [AttributeType::Value, AttributeType::Sensitive, AttributeType::Extractable];
        let told = session.get_attributes(found[0], &asked).unwrap();
        assert!(told.contains(&Attribute::Sensitive(true)), "{told:?}");
        assert!(told.contains(&Attribute::Extractable(false)), "{told:?}");
        assert!(!told.iter().any(|it| matches!(it, Attribute::Value(_))), "{told:?}");
    });
}

#[test]
fn a_lost_session_is_opened_again_and_a_key_that_is_gone_signs_nothing() {
    with_token("a_lost_session_is_opened_again_and_a_key_that_is_gone_signs_nothing", |module| {
        let token = open(module);
        let key = token.generate("receipt-1", KeyKind::Ed25519, &SystemEntropy).unwrap();
        let before = token.session().unwrap().open().unwrap().1;
        token.session().unwrap().open().unwrap().0.logout().unwrap();
        let signature = key.sign(b"m").unwrap();
        assert_eq!(key.public_key().verify(b"m", &signature), Ok(()));
        assert_eq!(token.session().unwrap().open().unwrap().1, before + 1);

        for class in [ObjectClass::PRIVATE_KEY, ObjectClass::PUBLIC_KEY] {
            let held = token.session().unwrap();
            let (session, _) = held.open().unwrap();
            let found = token.objects(session, class, "receipt-1", None).unwrap();
            session.destroy_object(found[0]).unwrap();
        }
        let missing =
            TokenError::KeyMissing { token: LABEL.to_owned(), key: "receipt-1".to_owned() };
        assert_eq!(key.sign(b"m"), Err(SignatureError::Token(missing)));
    });
}

#[test]
fn a_token_that_was_away_signs_again_once_it_is_back() {
    with_token("a_token_that_was_away_signs_again_once_it_is_back", |module| {
        let token = open(module);
        let key = token.generate("receipt-1", KeyKind::Ed25519, &SystemEntropy).unwrap();
        let conf = std::env::var("SOFTHSM2_CONF").unwrap();
        let tokens = Path::new(&conf).with_file_name("tokens");
        let away = tokens.with_file_name("away");
        std::fs::rename(&tokens, &away).unwrap();
        let refused = key.sign(b"m").unwrap_err();
        assert!(matches!(refused, SignatureError::Token(_)), "{refused}");
        std::fs::rename(&away, &tokens).unwrap();
        let signature = key.sign(b"m").unwrap();
        assert_eq!(key.public_key().verify(b"m", &signature), Ok(()));
    });
}

#[test]
fn a_wrong_pin_is_told_and_never_tried_twice() {
    with_token("a_wrong_pin_is_told_and_never_tried_twice", |module| {
        let wrong = TokenError::WrongPin { token: LABEL.to_owned() };
        assert_eq!(Token::open(module, LABEL, pin("111111")).err(), Some(wrong.clone()));
        let token = Token {
            label: LABEL.to_owned(),
            module: Module::load(module).unwrap(),
            pin: pin("111111"),
            session: Mutex::new(State::Closed { number: 0 }),
        };
        assert_eq!(token.session().err(), Some(wrong.clone()));
        assert!(matches!(&*token.session.lock().unwrap(), State::Refused(_)));
        // With the right one another login would succeed; this token does not ask.
        drop(open(module));
        assert_eq!(token.session().err(), Some(wrong));
        assert!(Token::open(module, LABEL, pin(PIN)).is_ok());
    });
}

#[test]
fn what_is_missing_is_named_with_its_remedy() {
    with_token("what_is_missing_is_named_with_its_remedy", |module| {
        let told = |module: &Path, label: &str| {
            Token::open(module, label, pin(PIN)).unwrap_err().to_string()
        };
        let nowhere = told(Path::new("/nowhere/module.so"), LABEL);
        assert!(
            nowhere.contains("/nowhere/module.so") && nowhere.contains("`module`"),
            "{nowhere}"
        );
        let no_module = told(Path::new("/etc/passwd"), LABEL);
        assert!(no_module.contains("cannot be loaded"), "{no_module}");
        let absent = told(module, "another token");
        assert!(absent.contains("another token") && absent.contains("`token_label`"), "{absent}");
    });
}

#[test]
fn a_point_is_read_with_and_without_its_octet_string() {
    let p256 = super::super::P256Key::generate().unwrap().public_key();
    let wrapped = |point: &[u8]| {
        let length = u8::try_from(point.len()).unwrap();
        [&[OCTET_STRING, length], point].concat()
    };
    for point in [p256.as_bytes().to_vec(), wrapped(p256.as_bytes())] {
        assert_eq!(public_key_of(&P256_OID, &point), Some(p256));
        assert_eq!(public_key_of(&ED25519_OID, &point), None);
    }
    let ed25519 = PublicKey::new([4; 32]);
    for (params, point) in [
        (ED25519_NAME.as_slice(), [4; 32].to_vec()),
        (ED25519_NAME.as_slice(), wrapped(&[4; 32])),
        (ED25519_OID.as_slice(), wrapped(&[4; 32])),
    ] {
        assert_eq!(public_key_of(params, &point), Some(ed25519));
    }
    // A curve that nobody asked for.
    assert_eq!(public_key_of(&[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22], &[4; 97]), None);
}

#[test]
fn a_secret_key_of_the_token_opens_what_it_sealed_and_nothing_else() {
    with_token("a_secret_key_of_the_token_opens_what_it_sealed_and_nothing_else", |module| {
        let token = open(module);
        let missing = token.seal("kek", b"here", b"secret", &SystemEntropy).unwrap_err();
        assert!(matches!(missing, TokenError::SealingKeyMissing { .. }), "{missing}");
        for label in ["kek", "kek-2"] {
            token.generate_sealing_key(label, &SystemEntropy).unwrap();
        }
        let twice = token.generate_sealing_key("kek", &SystemEntropy).unwrap_err();
        assert!(matches!(twice, TokenError::KeyTwice { .. }), "{twice}");
        let sealed = token.seal("kek", b"here", b"secret", &SystemEntropy).unwrap();
        assert_eq!(sealed.len(), 12 + 6 + 16);
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
        assert_eq!(token.open_sealed("kek", b"here", &sealed).unwrap().as_slice(), b"secret");
        let again = token.seal("kek", b"here", b"secret", &SystemEntropy).unwrap();
        assert_ne!(again, sealed, "nonces differ");
        for (label, aad) in [("kek-2", b"here".as_slice()), ("kek", b"there")] {
            let refused = token.open_sealed(label, aad, &sealed).unwrap_err();
            assert!(matches!(refused, TokenError::Altered { .. }), "{refused}");
        }
        for place in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[place] ^= 1;
            assert!(token.open_sealed("kek", b"here", &altered).is_err(), "{place}");
        }
        // It goes on after what was refused, and in another session.
        let session = open(module);
        assert_eq!(session.open_sealed("kek", b"here", &sealed).unwrap().as_slice(), b"secret");
        assert!(token.destroy_sealing_key("kek").unwrap());
        assert!(!token.destroy_sealing_key("kek").unwrap());
        let gone = session.open_sealed("kek", b"here", &sealed).unwrap_err();
        assert!(matches!(gone, TokenError::SealingKeyMissing { .. }), "{gone}");
    });
}
