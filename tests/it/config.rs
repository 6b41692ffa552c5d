//! The configuration: the example is the truth, and all faults are told at once.

use std::path::Path;
use std::time::Duration;

use tulga::capture::DecodeLimits;
use tulga::config::{Config, ConfigError, LogFormat, Pkcs11Config, RawConfig};
use tulga::crypto::KeyKind;
use tulga::domain::time::UnixMillis;

#[test]
fn the_example_is_the_default() {
    let example: RawConfig = toml::from_str(&example_text()).unwrap();
    assert_eq!(example, RawConfig::default());
    let config = Config::load(&example_path()).unwrap();
    assert_eq!(config, Config::from_toml("").unwrap());
    assert_eq!(config.decode_limits, DecodeLimits::default());
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:7443");
    assert_eq!(config.server.deadline, Duration::from_secs(8));
    assert_eq!(config.log.format, LogFormat::Text);
    assert_eq!(config.paths.policy_dir, None);
}

#[test]
fn the_example_has_every_key() {
    // Keys without a default stand there as comments.
    let uncommented: String = example_text()
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(key) if WITHOUT_DEFAULT.iter().any(|(_, name)| is_key(key, name)) => key,
            _ => line,
        })
        .fold(String::new(), |text, line| text + line + "\n");
    let example: toml::Table = toml::from_str(&uncommented).unwrap();
    let mut full = toml::Table::try_from(RawConfig::default()).unwrap();
    for (section, key) in WITHOUT_DEFAULT {
        let table = full.get_mut(section).and_then(toml::Value::as_table_mut).unwrap();
        assert!(table.insert(key.to_owned(), toml::Value::Boolean(true)).is_none());
    }
    let keys = |table: &toml::Table| -> Vec<String> {
        let section = |(name, value): (&String, &toml::Value)| {
            let keys = value.as_table().unwrap().keys();
            keys.map(|key| format!("{name}.{key}")).collect::<Vec<_>>()
        };
        let mut keys: Vec<_> = table.iter().flat_map(section).collect();
        keys.sort();
        keys
    };
    assert_eq!(keys(&example), keys(&full));
    // A folder and a service are two sources; there is one.
    let (folder, service) = (
        |line: &&str| !is_key(line, "dir"),
        |line: &&str| {
            !["url", "certificate", "key", "authority"].iter().any(|name| is_key(line, name))
        },
    );
    let lines = |keep: &dyn Fn(&&str) -> bool| {
        uncommented.lines().filter(keep).collect::<Vec<_>>().join("\n")
    };
    assert!(Config::from_toml(&lines(&folder)).unwrap().reference.is_some());
    assert!(Config::from_toml(&lines(&service)).unwrap().reference.is_some());
    assert!(Config::from_toml(&uncommented).is_err());
}

#[test]
fn keys_may_live_in_a_token_that_is_whole_or_refused() {
    let example = example_text();
    let (before, commented) = example.split_once("# [keys.pkcs11]\n").unwrap();
    let (commented, _) = commented.split_once("\n\n").unwrap();
    let keys = ["module", "token_label", "pin_file", "holds"];
    let uncommented = commented.lines().map(|line| match line.strip_prefix("# ") {
        Some(key) if keys.iter().any(|name| is_key(key, name)) => key,
        _ => line,
    });
    let section: String =
        uncommented.fold("[keys.pkcs11]\n".to_owned(), |text, line| text + line + "\n");
    let token = |text: &str| Config::from_toml(text).unwrap().keys.pkcs11.unwrap();
    let documented = token(&format!("{before}{section}"));
    assert_eq!(documented.token_label, "tulga");
    assert_eq!(documented.pin_file, Path::new("token.pin"));
    let held = |token: &Pkcs11Config| (token.holds_receipt, token.holds_ledger, token.holds_root);
    assert_eq!(held(&documented), (true, true, false));

    let good = "[keys]\nreceipt_alg = 'ES256'\n[keys.pkcs11]\nmodule = 'm'\ntoken_label = 't'\n\
                pin_file = 'p'\nholds = ['root']\n";
    assert_eq!(held(&token(good)), (false, false, true));
    assert_eq!(Config::from_toml(good).unwrap().keys.receipt_kind, KeyKind::P256);
    assert_eq!(Config::from_toml("").unwrap().keys.receipt_kind, KeyKind::Ed25519);
    let cases = [
        ("module = 'm'", "module = ''", "keys.pkcs11.module"),
        ("pin_file = 'p'", "pin_file = ''", "keys.pkcs11.pin_file"),
        ("token_label = 't'", "token_label = ''", "keys.pkcs11.token_label"),
        ("token_label = 't'", "token_label = 't '", "keys.pkcs11.token_label"),
        (
            "token_label = 't'",
            "token_label = '123456789012345678901234567890123'",
            "keys.pkcs11.token_label",
        ),
        ("holds = ['root']", "holds = []", "keys.pkcs11.holds"),
    ];
    for (old, new, key) in cases {
        let Err(ConfigError::Faults(faults)) = Config::from_toml(&good.replace(old, new)) else {
            panic!("taken: {new}");
        };
        let keys: Vec<_> = faults.faults().iter().map(|fault| fault.key).collect();
        assert_eq!(keys, [key], "{new}");
    }
    for (old, new) in [("'ES256'", "'ES384'"), ("['root']", "['keks']"), ("module = 'm'\n", "")] {
        let malformed = Config::from_toml(&good.replace(old, new));
        assert!(matches!(malformed, Err(ConfigError::Malformed(_))), "{new}");
    }
}

#[test]
fn what_takes_two_people_is_known_and_waits_longer_than_its_delay() {
    use tulga::domain::four_eyes::TwoPersonAct::{Erasure, FurtherCapture, TemplateImport};
    let of = |text: &str| Config::from_toml(text).map(|config| config.four_eyes);
    let by_default = of("").unwrap();
    assert!([Erasure, FurtherCapture, TemplateImport].iter().all(|act| by_default.covers(*act)));
    assert_eq!((by_default.delay_ms(Erasure), by_default.expires_ms), (0, 72 * 3_600_000));
    let nothing = of("[four_eyes]\nacts = []\n").unwrap();
    assert!(!nothing.covers(Erasure));
    let day = of("[four_eyes]\nexpires_hours = 48\ndelay_s = { erasure = 86400 }\n").unwrap();
    assert_eq!((day.delay_ms(Erasure), day.expires_ms), (86_400_000, 172_800_000));
    for (text, key) in [
        ("acts = ['erasure', 'redeem']", "four_eyes.acts"),
        ("expires_hours = 0", "four_eyes.expires_hours"),
        ("expires_hours = 721", "four_eyes.expires_hours"),
        ("expires_hours = 1\ndelay_s = { principal_registration = 3600 }", "four_eyes.delay_s"),
    ] {
        let Err(ConfigError::Faults(faults)) = of(&format!("[four_eyes]\n{text}\n")) else {
            panic!("taken: {text}");
        };
        // A proposal that expires at once is at fault by its delay too.
        assert!(faults.faults().iter().any(|fault| fault.key == key), "{text}");
    }
    assert!(matches!(of("[four_eyes.delay_s]\nredeem = 1\n"), Err(ConfigError::Malformed(_))));
}

const WITHOUT_DEFAULT: [(&str, &str); 12] = [
    ("paths", "policy_dir"),
    ("identity", "origin"),
    ("reference", "dir"),
    ("reference", "url"),
    ("reference", "certificate"),
    ("reference", "key"),
    ("reference", "authority"),
    ("witnesses", "policy"),
    ("witnesses", "tls_authority"),
    ("tsa", "url"),
    ("tsa", "authority"),
    ("tsa", "tls_authority"),
];

fn is_key(line: &str, name: &str) -> bool {
    line.strip_prefix(name).is_some_and(|rest| rest.starts_with(" = "))
}

#[test]
fn a_source_of_references_is_whole_or_refused() {
    let service = "[reference]\nurl = 'https://portraits.bank.example:8443'\ncertificate = 'c'\n\
                   key = 'k'\nauthority = 'a'\n";
    assert!(Config::from_toml(service).is_ok());
    assert!(Config::from_toml("[reference]\ndir = 'd'\n").is_ok());
    assert_eq!(Config::from_toml("").unwrap().reference, None);
    let of = |url: &str| service.replace("https://portraits.bank.example:8443", url);
    let cases = [
        (service.replace("certificate = 'c'\n", ""), "reference.certificate"),
        (service.replace("key = 'k'\n", ""), "reference.key"),
        (service.replace("authority = 'a'\n", ""), "reference.authority"),
        (service.replace("key = 'k'", "key = ''"), "reference.key"),
        (format!("{service}dir = 'd'\n"), "reference.url"),
        (of("http://portraits.bank.example"), "reference.url"),
        (of("https://"), "reference.url"),
        (of("portraits.bank.example:8443"), "reference.url"),
        (of("https://user@portraits.bank.example"), "reference.url"),
        (of("https://portraits.bank.example/v1"), "reference.url"),
        (of("https://portraits.bank.example/?x=1"), "reference.url"),
        ("[reference]\ndir = ''\n".to_owned(), "reference.dir"),
        ("[reference]\nkey = 'k'\n".to_owned(), "reference.key"),
        ("[reference]\nauthority = 'k'\n".to_owned(), "reference.authority"),
        ("[reference]\ndir = 'd'\ndeadline_ms = 8000\n".to_owned(), "reference.deadline_ms"),
        ("[reference]\ndeadline_ms = 99\n".to_owned(), "reference.deadline_ms"),
        ("[reference]\ndeadline_ms = 30001\n".to_owned(), "reference.deadline_ms"),
    ];
    for (text, key) in cases {
        let Err(ConfigError::Faults(faults)) = Config::from_toml(&text) else {
            panic!("taken: {text}");
        };
        let keys: Vec<_> = faults.faults().iter().map(|fault| fault.key).collect();
        assert_eq!(keys, [key], "{text}");
    }
    let within = "[reference]\ndir = 'd'\ndeadline_ms = 7999\n[enrolment]\ntwo_people = true\n";
    let config = Config::from_toml(within).unwrap();
    assert_eq!(config.reference.unwrap().deadline, Duration::from_millis(7_999));
    assert!(config.two_people);
}

#[test]
fn every_fault_is_told_at_once() {
    let text = r#"
        [server]
        listen = "localhost"
        deadline_ms = 50
        message_bytes_max = 4194304
        concurrent_streams_max = 0
        [paths]
        data_dir = ""
        [identity]
        tenant = "not a tenant"
        time_zone = "Almaty"
        issuer = "has space"
        origin = "a+b"
        [vision]
        queue_wait_ms = 100
        [rate]
        per_terminal_per_minute = 0
        per_address_per_second = 0
        [log]
        filter = ""
    "#;
    let Err(ConfigError::Faults(faults)) = Config::from_toml(text) else {
        panic!("a faulty configuration was taken");
    };
    let mut keys: Vec<_> = faults.faults().iter().map(|fault| fault.key).collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        [
            "identity.issuer",
            "identity.origin",
            "identity.tenant",
            "identity.time_zone",
            "log.filter",
            "paths.data_dir",
            "rate.per_address_per_second",
            "rate.per_terminal_per_minute",
            "server.concurrent_streams_max",
            "server.deadline_ms",
            "server.listen",
            "server.message_bytes_max",
            "vision.queue_wait_ms",
        ]
    );
    let told = faults.to_string();
    for key in keys {
        assert!(told.contains(key), "{told}");
    }
}

#[test]
fn each_number_is_refused_just_outside_its_bounds() {
    let bounds: [(&str, &str, u64, u64); 15] = [
        ("server", "deadline_ms", 2_001, 60_000),
        ("server", "message_bytes_max", (4 << 20) + (64 << 10), 128 << 20),
        ("server", "import_message_bytes_max", 64 << 10, 512 << 20),
        ("server", "connections_max", 1, 1_000_000),
        ("server", "connections_per_address_max", 1, 1_000_000),
        ("server", "first_call_ms", 1_000, 600_000),
        ("server", "concurrent_streams_max", 1, 10_000),
        ("server", "connection_age_s", 10, 86_400),
        ("capture", "encoded_bytes_max", 1 << 10, (5 << 20) - (64 << 10)),
        ("capture", "side_px_max", 64, 16_384),
        ("capture", "pixels_max", 4_096, 100_000_000),
        ("challenge", "ttl_ms", 1_000, 600_000),
        ("receipt", "valid_ms", 1_000, 600_000),
        ("ledger", "checkpoint_interval_ms", 100, 60_000),
        ("retention", "interval_s", 1, 7 * 86_400),
    ];
    for (section, key, min, max) in bounds {
        let with = |value: u64| Config::from_toml(&format!("[{section}]\n{key} = {value}\n"));
        for good in [min, max] {
            assert!(with(good).is_ok(), "{section}.{key} = {good}");
        }
        for bad in [min - 1, max + 1] {
            assert_eq!(with(bad).unwrap_err().code(), "CONFIG_FAULTY", "{section}.{key} = {bad}");
        }
    }
}

#[test]
fn a_key_or_section_that_nobody_reads_is_refused() {
    for text in [
        "[server]\nlisten_on = \"127.0.0.1:1\"",
        "[servers]\n",
        "listen = \"127.0.0.1:1\"",
        "[server]\ndeadline_ms = -1",
        "[server]\ndeadline_ms = \"8000\"",
        "[log]\nformat = \"xml\"",
        "[paths",
    ] {
        assert_eq!(Config::from_toml(text).unwrap_err().code(), "CONFIG_MALFORMED", "{text}");
    }
    assert_eq!(Config::load(Path::new("nowhere.toml")).unwrap_err().code(), "CONFIG_UNREADABLE");
}

#[test]
fn a_ledger_is_named_after_its_issuer_and_half_year() {
    let at = |text| UnixMillis::parse_rfc3339(text).unwrap();
    let config = Config::from_toml("").unwrap();
    for (begun, origin) in [
        ("2026-01-01T00:00:00.000Z", "localhost/tulga/2026h1"),
        ("2026-06-30T23:59:59.999Z", "localhost/tulga/2026h1"),
        ("2026-07-01T00:00:00.000Z", "localhost/tulga/2026h2"),
        ("2026-12-31T23:59:59.999Z", "localhost/tulga/2026h2"),
    ] {
        assert_eq!(config.identity.origin(at(begun)), origin);
    }
    let named = Config::from_toml("[identity]\norigin = \"bank.example/gw07/x\"").unwrap();
    assert_eq!(named.identity.origin(at("2026-01-01T00:00:00.000Z")), "bank.example/gw07/x");
}

fn example_text() -> String {
    std::fs::read_to_string(example_path()).unwrap()
}

fn example_path() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/example.toml")
}

#[test]
fn witnesses_and_a_time_stamping_authority_are_whole_or_refused() {
    let witnesses = Config::from_toml("[witnesses]\npolicy = 'p'\n").unwrap().witnesses.unwrap();
    assert_eq!(witnesses.lapse_max, Some(Duration::from_mins(15)));
    let never = "[witnesses]\npolicy = 'p'\nlapse_max_s = 0\n";
    assert_eq!(Config::from_toml(never).unwrap().witnesses.unwrap().lapse_max, None);
    assert_eq!(Config::from_toml("").unwrap().witnesses, None);
    let tsa = "[tsa]\nurl = 'http://tsa.example/stamp'\nauthority = 'a'\n";
    let config = Config::from_toml(tsa).unwrap().tsa.unwrap();
    assert_eq!(config.interval, Duration::from_hours(1));
    for (text, key) in [
        ("[witnesses]\npolicy = ''\n", "witnesses.policy"),
        ("[witnesses]\nlapse_max_s = 4\n", "witnesses.lapse_max_s"),
        ("[witnesses]\ndeadline_ms = 1\n", "witnesses.deadline_ms"),
        ("[tsa]\nurl = 'http://a'\n", "tsa.authority"),
        ("[tsa]\nauthority = 'a'\n", "tsa.url"),
        ("[tsa]\nurl = 'tsa.example'\nauthority = 'a'\n", "tsa.url"),
        ("[tsa]\ninterval_s = 0\n", "tsa.interval_s"),
    ] {
        let Err(ConfigError::Faults(faults)) = Config::from_toml(text) else { panic!("{text}") };
        assert_eq!(faults.faults().iter().map(|it| it.key).collect::<Vec<_>>(), [key], "{text}");
    }
}
