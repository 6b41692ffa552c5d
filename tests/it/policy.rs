//! The rules: what they must never approve, and packs that must never decide.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use proptest::prelude::*;
use tulga::domain::decision::{Decision, Outcome, RuleId};
use tulga::domain::money::{AmountMinor, Currency};
use tulga::domain::reason::Reason;
use tulga::domain::register::Register;
use tulga::domain::supplied::{BusinessClass, RiskSign};
use tulga::domain::time::UnixMillis;
use tulga::domain::transaction::{HolderVerification, Operation};
use tulga::domain::turnover::{Direction, Party, Turnover, Turnovers, Window};
use tulga::policy::{
    BankFacts, CaptureFact, Confirmation, CustomerStanding, DeviceLevel, Facts, History,
    LivenessFact, PackError, PolicyPack, Retention, decide, decide_by_cedar, document,
};

const NOW: UnixMillis = UnixMillis::new(1_795_226_595_000);

#[test]
fn the_embedded_pack_is_the_one_in_the_tree_and_passes_its_cases() {
    let embedded = PolicyPack::embedded_dev().unwrap();
    let loaded = PolicyPack::load(&dev_dir()).unwrap();
    assert_eq!(embedded.hash(), loaded.hash());
    assert_eq!(embedded.id().as_str(), "dev");
    assert!(embedded.cases() >= 20, "{} cases", embedded.cases());
    assert_eq!(embedded.rules(), 12);
}

#[test]
fn a_byte_changed_in_any_file_changes_the_hash() {
    let files = dev_files();
    let hash = PolicyPack::from_files(&files).unwrap().hash();
    for name in files.keys() {
        let mut changed = files.clone();
        // A comment means nothing to TOML (`#`) or Cedar (`//`), and is in the hash all the same.
        let comment = if name.ends_with(".toml") { "# x\n" } else { "// x\n" };
        changed.get_mut(name).unwrap().push_str(comment);
        assert_ne!(PolicyPack::from_files(&changed).unwrap().hash(), hash, "{name}");
    }
}

#[test]
fn a_forbid_that_overflows_is_inconclusive_and_never_an_approval() {
    // Cedar drops a policy that errs: with the permit left alone, it allows.
    let overflow = r#"@id("overflow") @outcome("DENIED") @reason("POL_AMOUNT")
        forbid (principal, action, resource)
        when { context.amount_minor + 9223372036854775807 > 0 };"#;
    let decision = decide(&genuine(), &dev_with(overflow), NOW);
    assert_eq!(decision.outcome(), Outcome::Inconclusive);
    assert_eq!(decision.reasons(), [Reason::SysPolicy]);
    assert_eq!(
        decision.rules().iter().map(tulga::domain::decision::RuleId::as_str).collect::<Vec<_>>(),
        ["overflow"]
    );
}

#[test]
fn a_permit_that_overflows_is_inconclusive_even_beside_one_that_holds() {
    let overflow = r#"@id("overflow")
        permit (principal, action, resource)
        when { context.amount_minor + 9223372036854775807 > 0 };"#;
    let decision = decide(&genuine(), &dev_with(overflow), NOW);
    assert_eq!(decision.outcome(), Outcome::Inconclusive);
}

#[test]
fn a_forbid_that_only_caps_approves_nothing_that_no_permit_allows() {
    let cap = r#"@id("cap") @outcome("APPROVED_CAPPED") @reason("LIM_DAILY_CAP")
        @cap_minor("500000") @cap_hours("48")
        forbid (principal, action, resource);"#;
    let mut files = dev_files();
    files.retain(|name, _| !name.ends_with(".cedar"));
    files.insert("cap.cedar".to_owned(), cap.to_owned());
    set_cases(&mut files, "DENIED", &["LIM_DAILY_CAP", "POL_NOT_PERMITTED"]);
    let pack = PolicyPack::from_files(&files).unwrap();
    assert_eq!(decide(&genuine(), &pack, NOW).outcome(), Outcome::Denied);

    let capped = decide(&genuine(), &dev_with(cap), NOW);
    let until = NOW.plus_millis(48 * 3_600_000);
    assert_eq!(capped.outcome(), Outcome::ApprovedCapped { cap_minor: 500_000, until });
    assert_eq!(capped.reasons(), [Reason::LimDailyCap]);
}

#[test]
fn a_step_up_stands_only_where_nothing_graver_does() {
    let step_up = r#"@id("step") @outcome("STEP_UP") @reason("POL_STEP_UP") @step_up("TELLER")
        forbid (principal, action, resource);"#;
    let pack = dev_with(step_up);
    assert_eq!(decide(&genuine(), &pack, NOW).outcome().as_str(), "STEP_UP");
    let decision = decide(&Facts { strength_db: Some(3), ..genuine() }, &pack, NOW);
    assert_eq!(decision.outcome(), Outcome::Denied);
    assert_eq!(decision.reasons(), [Reason::MatNoMatch, Reason::PolStepUp]);
}

#[test]
fn a_pack_decides_only_within_its_dates() {
    let mut files = dev_files();
    let manifest = files.get_mut("pack.toml").unwrap();
    *manifest =
        manifest.replace("[bars]\n", "effective_until = \"2026-12-01T00:00:00Z\"\n[bars]\n");
    let pack = PolicyPack::from_files(&files).unwrap();
    let end = UnixMillis::parse_rfc3339("2026-12-01T00:00:00.000Z").unwrap();
    assert_eq!(decide(&genuine(), &pack, end.plus_millis(-1)).outcome(), Outcome::Approved);
    let decision = decide(&genuine(), &pack, end);
    assert_eq!(decision.outcome(), Outcome::Inconclusive);
    assert_eq!(decision.reasons(), [Reason::SysPolicy]);
}

#[test]
fn a_pack_says_how_long_things_are_kept_within_bounds() {
    let with = |retention: &str| {
        let mut files = dev_files();
        let manifest = files.get_mut("pack.toml").unwrap();
        *manifest = manifest.replace("[bars]\n", &format!("[retention]\n{retention}\n[bars]\n"));
        PolicyPack::from_files(&files)
    };
    let kept = |retention| {
        let Retention { footage_days, evidence_days } = with(retention).unwrap().retention();
        (footage_days, evidence_days)
    };
    assert_eq!(kept(""), (180, 0));
    assert_eq!(kept("footage_days = 1\nevidence_days = 36500"), (1, 36_500));
    assert_eq!(kept("footage_days = 36500"), (36_500, 0));
    for (retention, field) in [
        ("footage_days = 0", "retention.footage_days"),
        ("footage_days = 36501", "retention.footage_days"),
        ("evidence_days = 36501", "retention.evidence_days"),
    ] {
        assert!(matches!(with(retention), Err(PackError::Field(f)) if f == field), "{retention}");
    }
    for retention in ["evidence_days = -1", "clips = 5"] {
        assert!(matches!(with(retention), Err(PackError::Manifest(_))), "{retention}");
    }
}

#[test]
fn nothing_more_is_approved_when_a_file_of_forbids_is_lost() {
    for lost in ["20-person.cedar", "30-transaction.cedar"] {
        let mut files = dev_files();
        files.remove(lost).unwrap();
        set_cases(&mut files, "APPROVED", &[]);
        let pack = PolicyPack::from_files(&files).unwrap();
        for facts in [
            Facts { customer: CustomerStanding::Suspended, ..genuine() },
            Facts { strength_db: Some(39), ..genuine() },
            Facts { liveness: LivenessFact::Suspect { score_e4: 9_999 }, ..genuine() },
            Facts { liveness: LivenessFact::Live { score_e4: 1 }, ..genuine() },
            Facts { attempts_in_transaction: 4, ..genuine() },
            Facts { amount: AmountMinor::try_from(50_000_001).unwrap(), ..genuine() },
            Facts { currency: Currency::try_from("CHF").unwrap(), ..genuine() },
            Facts { operation: Operation::ThirdPartyDeposit, ..genuine() },
        ] {
            assert_eq!(decide(&facts, &pack, NOW).outcome(), Outcome::Denied, "{lost} {facts:?}");
        }
    }
}

#[test]
fn each_faulty_pack_is_refused_for_its_fault() {
    let replaced = |name: &str, from: &str, to: &str| {
        let mut files = dev_files();
        let text = files.get_mut(name).unwrap();
        assert!(text.contains(from), "{from}");
        *text = text.replace(from, to);
        files
    };
    let without = |name: &str| {
        let mut files = dev_files();
        files.remove(name).unwrap();
        files
    };
    let (permit, person, toml) = ("10-permit.cedar", "20-person.cedar", "pack.toml");
    let faulty = [
        (without(toml), "PACK_INCOMPLETE"),
        (without("schema.cedarschema"), "PACK_INCOMPLETE"),
        (without("tests/dev.toml"), "PACK_CASES"),
        (without(person), "PACK_CASES"),
        (replaced(toml, "version = 1", "version = -1"), "PACK_MANIFEST"),
        (replaced(toml, "version = 1", "version = 1\nverison = 2"), "PACK_MANIFEST"),
        (replaced(toml, "id = \"dev\"", "id = \"Dev pack\""), "PACK_MANIFEST"),
        (replaced(toml, "2026-01-01T", "2026-13-01T"), "PACK_MANIFEST"),
        (replaced(toml, "required_db = 40", "required_db = 61"), "PACK_MANIFEST"),
        (replaced(toml, "attempts_max = 3", "attempts_max = 0"), "PACK_MANIFEST"),
        (replaced(toml, "liveness_min_e4 = 5000", "liveness_min_e4 = 10001"), "PACK_MANIFEST"),
        (replaced(toml, "KZT = 50_000_000", "KZT = 0"), "PACK_MANIFEST"),
        (replaced(toml, "KZT = ", "Tenge = "), "PACK_MANIFEST"),
        (replaced("schema.cedarschema", "entity Customer;", "entity;"), "PACK_SCHEMA"),
        (replaced(permit, "permit (", "permit ("), ""),
        (replaced(permit, "permit (", "allow ("), "PACK_RULES"),
        (replaced(permit, "context.strength_db >=", "context.strength >="), "PACK_RULES"),
        // Strict: an optional fact that is not asked for first, and a text compared with a number.
        (replaced(permit, "context has strength_db &&", ""), "PACK_RULES"),
        (replaced(permit, "\"active\"", "1"), "PACK_RULES"),
        (replaced(person, "@reason(\"SUB_UNKNOWN\")", ""), "PACK_RULES"),
        (replaced(person, "dev.customer.suspended", "dev.customer.unknown"), "PACK_RULES"),
        (replaced(person, "dev.customer.suspended", "dev.permit"), "PACK_RULES"),
        (
            replaced("tests/dev.toml", "outcome = \"APPROVED\"", "outcome = \"DENIED\""),
            "PACK_CASES",
        ),
        (replaced("tests/dev.toml", "strength_db = 39", "strenght_db = 39"), "PACK_CASES"),
        (replaced("tests/dev.toml", "\"CAP_BLURRED\"", "\"SYS_STORE\""), "PACK_CASES"),
    ];
    for (index, (files, code)) in faulty.iter().enumerate() {
        let came = PolicyPack::from_files(files).err();
        assert_eq!(came.as_ref().map_or("", PackError::code), *code, "{index}: {came:?}");
    }
}

#[test]
fn a_folder_that_is_no_pack_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let error = PolicyPack::load(dir.path()).unwrap_err();
    assert_eq!(error.code(), "PACK_UNREADABLE");
    assert!(PolicyPack::load(&dir.path().join("nowhere")).is_err());

    for (name, text) in dev_files() {
        let path = dir.path().join(&name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let pack = PolicyPack::load(dir.path()).unwrap();
    assert_eq!(pack.hash(), PolicyPack::embedded_dev().unwrap().hash());
    std::fs::write(dir.path().join("big.cedar"), " ".repeat((1 << 20) + 1)).unwrap();
    assert_eq!(PolicyPack::load(dir.path()).unwrap_err().code(), "PACK_TOO_LARGE");
}

proptest! {
    #[test]
    fn an_approval_means_that_every_bar_was_met(facts in any_facts()) {
        let pack = PACK.with(Clone::clone);
        let bars = pack.bars();
        let decision = decide(&facts, &pack, NOW);
        if decision.outcome().approves() {
            prop_assert!(facts.strength_db.is_some_and(|db| db >= bars.required_db));
            prop_assert_eq!(facts.customer, CustomerStanding::Active);
            prop_assert_eq!(&facts.capture, &CaptureFact::Usable);
            prop_assert!(facts.attempts_in_transaction <= bars.attempts_max);
            let alive = match facts.liveness {
                LivenessFact::NoModel => true,
                LivenessFact::Live { score_e4 } => score_e4 >= bars.liveness_min_e4,
                LivenessFact::Suspect { .. } => false,
            };
            prop_assert!(alive);
            let most = bars.amount_max_minor(facts.currency);
            prop_assert!(most.is_some_and(|most| facts.amount.get() <= most));
            prop_assert_ne!(facts.operation, Operation::ThirdPartyDeposit);
        }
    }

    #[test]
    fn who_meets_every_bar_is_approved(strength_db in 40..=60i64, attempts in 1..=3u32,
                                       amount in 1..=50_000_000i64, score_e4 in 5_000..=10_000i64) {
        let facts = Facts {
            strength_db: Some(strength_db),
            attempts_in_transaction: attempts,
            amount: AmountMinor::try_from(amount).unwrap(),
            liveness: LivenessFact::Live { score_e4 },
            ..genuine()
        };
        let decision = decide(&facts, &PACK.with(Clone::clone), NOW);
        prop_assert_eq!(decision.outcome(), Outcome::Approved);
        prop_assert!(decision.reasons().is_empty());
    }

    #[test]
    fn a_capture_that_cannot_be_used_is_answered_alike_for_everybody(facts in any_facts()) {
        let capture = CaptureFact::Refused(vec![Reason::CapTooDark, Reason::CapPose]);
        let facts = Facts { capture, ..facts };
        let decision = decide(&facts, &PACK.with(Clone::clone), NOW);
        prop_assert_eq!(decision.outcome(), Outcome::Inconclusive);
        prop_assert_eq!(decision.reasons(), &[Reason::CapTooDark, Reason::CapPose]);
    }

    #[test]
    fn a_stronger_match_never_turns_an_approval_into_a_refusal(facts in any_facts(),
                                                               more in 0..=60i64) {
        let pack = PACK.with(Clone::clone);
        let stronger = Facts { strength_db: facts.strength_db.map(|db| db + more), ..facts.clone() };
        let (before, after) = (decide(&facts, &pack, NOW), decide(&stronger, &pack, NOW));
        prop_assert!(after.outcome().gravity_cmp(&before.outcome()).is_le());
    }

    #[test]
    fn a_terminal_cannot_tell_who_is_unknown_from_who_does_not_match(
        facts in any_facts(), a in any_stranger(), b in any_stranger(),
    ) {
        let pack = PACK.with(Clone::clone);
        let seen = |decision: &Decision| {
            (decision.outcome(), decision.public_reasons(), decision.next_screen(1))
        };
        let one = decide(&a.over(&facts), &pack, NOW);
        let other = decide(&b.over(&facts), &pack, NOW);
        prop_assert_eq!(seen(&one), seen(&other));
    }

    #[test]
    fn a_decision_is_the_same_each_time(facts in any_facts()) {
        let pack = PACK.with(Clone::clone);
        prop_assert_eq!(decide(&facts, &pack, NOW), decide(&facts, &pack, NOW));
    }
}

thread_local! {
    static PACK: PolicyPack = PolicyPack::embedded_dev().unwrap();
}

/// What differs between people who must all look alike to a terminal.
#[derive(Debug, Clone)]
struct Stranger {
    customer: CustomerStanding,
    strength_db: Option<i64>,
    liveness: LivenessFact,
}

impl Stranger {
    fn over(&self, facts: &Facts) -> Facts {
        let Self { customer, strength_db, liveness } = *self;
        Facts { customer, strength_db, liveness, ..facts.clone() }
    }
}

fn any_stranger() -> impl Strategy<Value = Stranger> {
    let refused = (any_standing(), any_strength(), any_liveness());
    refused
        .prop_map(|(customer, strength_db, liveness)| Stranger { customer, strength_db, liveness })
        .prop_filter("somebody who must not be approved", |stranger| {
            stranger.customer != CustomerStanding::Active
                || stranger.strength_db.is_none_or(|db| db < 40)
                || matches!(stranger.liveness, LivenessFact::Suspect { .. })
        })
}

fn any_standing() -> impl Strategy<Value = CustomerStanding> {
    prop_oneof![
        3 => Just(CustomerStanding::Active),
        1 => Just(CustomerStanding::Unknown),
        1 => Just(CustomerStanding::NotActive),
        1 => Just(CustomerStanding::NotEnrolled),
        1 => Just(CustomerStanding::Suspended),
    ]
}

fn any_strength() -> impl Strategy<Value = Option<i64>> {
    prop_oneof![
        1 => Just(None),
        3 => (0..=60i64).prop_map(Some),
        2 => (38..=42i64).prop_map(Some),
        1 => (i64::MIN / 2..i64::MAX / 2).prop_map(Some),
    ]
}

fn any_liveness() -> impl Strategy<Value = LivenessFact> {
    let score = || prop_oneof![0..=10_000i64, 4_998..=5_002i64];
    prop_oneof![
        2 => Just(LivenessFact::NoModel),
        3 => score().prop_map(|score_e4| LivenessFact::Live { score_e4 }),
        1 => score().prop_map(|score_e4| LivenessFact::Suspect { score_e4 }),
    ]
}

prop_compose! {
    fn any_facts()(
        operation in prop::sample::select(vec![
            Operation::CashWithdrawal, Operation::CashDeposit, Operation::ThirdPartyDeposit,
        ]),
        amount in prop_oneof![1..=50_000_000i64, 49_999_998..=50_000_002i64,
                              1..=1_000_000_000_000_000i64],
        currency in prop::sample::select(vec!["KZT", "USD", "CHF"]),
        customer in any_standing(),
        usable in prop::bool::weighted(0.9),
        strength_db in any_strength(),
        liveness in any_liveness(),
        attempts_in_transaction in prop_oneof![4 => 1..=6u32, 1 => any::<u32>()],
        holder_verification in prop::sample::select(vec![
            HolderVerification::None, HolderVerification::CardAndPin, HolderVerification::App,
        ]),
        device_level in prop::sample::select(vec![
            DeviceLevel::Certificate, DeviceLevel::SoftwareKey, DeviceLevel::SecureElement,
        ]),
        iin_given in any::<bool>(),
    ) -> Facts {
        Facts {
            account_currency: Currency::try_from("KZT").unwrap(),
            customer,
            capture: if usable {
                CaptureFact::Usable
            } else {
                CaptureFact::Refused(vec![Reason::CapNoFace])
            },
            strength_db,
            liveness,
            attempts_in_transaction,
            holder_verification,
            device_level,
            iin_given,
            ..Facts::of(
                operation,
                AmountMinor::try_from(amount).unwrap(),
                Currency::try_from(currency).unwrap(),
            )
        }
    }
}

/// Facts that the development pack approves.
fn genuine() -> Facts {
    let kzt = Currency::try_from("KZT").unwrap();
    let amount = AmountMinor::try_from(1_000_000).unwrap();
    Facts {
        customer: CustomerStanding::Active,
        strength_db: Some(52),
        holder_verification: HolderVerification::CardAndPin,
        ..Facts::of(Operation::CashWithdrawal, amount, kzt)
    }
}

/// The development pack with one rule more, and no cases but one that holds for any pack.
fn dev_with(rule: &str) -> PolicyPack {
    let mut files = dev_files();
    files.insert("99-more.cedar".to_owned(), rule.to_owned());
    set_cases(&mut files, "INCONCLUSIVE", &["SYS_POLICY"]);
    let cases = files.get_mut("tests/dev.toml").unwrap();
    cases.push_str("at = \"2020-01-01T00:00:00Z\"\n");
    PolicyPack::from_files(&files).unwrap()
}

/// Replaces the cases by one over the base facts.
fn set_cases(files: &mut BTreeMap<String, String>, outcome: &str, reasons: &[&str]) {
    let cases = files.get_mut("tests/dev.toml").unwrap();
    let base = cases.split("[[case]]").next().unwrap();
    *cases = format!(
        "{base}\n[[case]]\nname = \"only\"\noutcome = \"{outcome}\"\nreasons = {reasons:?}\n"
    );
}

fn dev_files() -> BTreeMap<String, String> {
    files_of(&dev_dir())
}

/// A pack's files by their names relative to its folder.
fn files_of(dir: &Path) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for folder in [dir.to_owned(), dir.join("tests")] {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_file() {
                let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
                files.insert(name, fs::read_to_string(path).unwrap());
            }
        }
    }
    files
}

fn dev_dir() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/dev")
}

prop_compose! {
    fn any_rich_facts()(
        facts in any_facts(),
        sums in prop::collection::vec(
            (0..Party::ALL.len(), 0..Direction::ALL.len(), 0..Window::ALL.len(), 0..7i64, any_sum()), 0..12,
        ),
        counts in (0..13i64, 0..7i64, 0..5i64, 0..7i64),
        hours in (prop::option::of(46..50i64), prop::option::of(22..26i64)),
        registers in prop::collection::btree_set(prop::sample::select(Register::ALL.to_vec()), 0..2),
        risk_signs in prop::collection::btree_set(prop::sample::select(RiskSign::ALL.to_vec()), 0..2),
        business in prop::sample::select(BusinessClass::ALL.to_vec()),
        other_banks_month_minor in any_sum(),
        confirmation in prop::sample::select(Confirmation::ALL.to_vec()),
        flags in any::<[bool; 7]>(),
        guest in prop::bool::weighted(0.1),
        runs in any::<bool>(),
    ) -> Facts {
        let mut turnovers = Turnovers::default();
        for (party, direction, window, count, amount_minor) in sums {
            let turnover = Turnover { count, amount_minor };
            turnovers.set(Party::ALL[party], Direction::ALL[direction], Window::ALL[window], turnover);
        }
        let rule = RuleId::try_from("RU-01").unwrap();
        Facts {
            customer: if guest { CustomerStanding::Guest } else { facts.customer },
            turnovers,
            history: History {
                cards: counts.0,
                others_on_account_h24: counts.1,
                others_on_card_h24: counts.1,
                other_terminals_h1: counts.2,
                failures_h24: counts.3,
                active_hours: hours.0,
            },
            registers,
            confirmation,
            unable: flags[0],
            owner_known: flags[1],
            case_open: flags[2],
            shared_face: flags[3],
            face_of_another: flags[5],
            near_duplicate: flags[6],
            bank: BankFacts {
                business,
                other_banks_month_minor,
                account_data_age_hours: hours.1,
                risk_signs,
                social_payment: flags[4],
            },
            capped: runs.then_some((rule, UnixMillis::new(i64::MAX / 2))).into_iter().collect(),
            ..facts
        }
    }
}

fn any_sum() -> impl Strategy<Value = i64> {
    prop_oneof![0..=5i64, 1..=60_000_000i64, 0..=20_000_000_000i64, Just(i64::MAX)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// The quicker evaluator and Cedar say the same of every pack, and of rules that no pack has.
    #[test]
    fn the_quicker_evaluator_says_what_cedar_says(facts in any_rich_facts()) {
        static PACKS: LazyLock<Vec<PolicyPack>> = LazyLock::new(|| {
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
            let dirs = fs::read_dir(root).unwrap();
            let packs = dirs.map(|dir| PolicyPack::load(&dir.unwrap().path()).unwrap());
            packs.chain([dev_with(ODD_RULES)]).collect()
        });
        for pack in &*PACKS {
            prop_assert!(pack.is_compiled());
            let now = pack.effective_from();
            prop_assert_eq!(decide(&facts, pack, now), decide_by_cedar(&facts, pack, now));
        }
    }
}

/// What the packs do not use of the compiled part of the language, and what overflows.
const ODD_RULES: &str = r#"
@id("odd.if") @outcome("DENIED") @reason("POL_AMOUNT")
forbid (principal, action in [Action::"cash_deposit"], resource) when {
  if context.amount_minor > 1000 then context.currency != "KZT" else -context.amount_minor < -500
} unless { context.device_level == "secure_element" };

@id("odd.numbers") @outcome("DENIED") @reason("POL_CURRENCY")
forbid (principal, action == Action::"cash_withdrawal", resource) when {
  context.amount_minor * 9000 - 7 >= 100 && context.bars.required_db + 1 <= 41
};

@id("odd.sets") @outcome("STEP_UP") @step_up("TELLER") @reason("POL_STEP_UP")
forbid (principal, action, resource) when {
  ["KZT", "USD"].containsAll([context.currency]) == ["app", "none"].containsAny([context.holder_verification]) ||
  ["a"] == ["a", "a"] && !["KZT"].contains(context.account_currency)
};

@id("odd.overflow") @outcome("DENIED") @reason("POL_NOT_PERMITTED")
forbid (principal, action == Action::"third_party_deposit", resource) when {
  context.amount_minor * 9223372036854775807 > 0
};
"#;

/// A pack whose cases hold whatever its rules say proves nothing: each number moved by one, and each
/// rule taken away, must make a case fail.
#[test]
fn every_number_and_every_rule_of_a_pack_is_held_by_a_case() {
    let packs = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let mut mutants = 0;
    for pack in fs::read_dir(packs).unwrap() {
        let files = files_of(&pack.unwrap().path());
        assert!(PolicyPack::from_files(&files).is_ok());
        for (name, text) in &files {
            let mutated = match name.as_str() {
                "pack.toml" => numbers_moved(text, text.find("[bars]").unwrap()),
                rules if rules.ends_with(".cedar") => {
                    [numbers_moved(text, 0), rules_taken_away(text)].concat()
                }
                _ => continue,
            };
            for (what, mutant) in mutated {
                let mut altered = files.clone();
                altered.insert(name.clone(), mutant);
                let survived = PolicyPack::from_files(&altered).is_ok();
                assert!(!survived, "{name}: no case notices {what}");
                mutants += 1;
            }
        }
    }
    assert!(mutants >= 20, "only {mutants} mutants");
}

/// The text with each number one more and one less, and what was done. Comments, the names of rules, signs and
/// of laws are for people: their numbers decide nothing.
fn numbers_moved(text: &str, from: usize) -> Vec<(String, String)> {
    let mut mutants = Vec::new();
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let is_label = ["@id(", "@law(", "@sign("].iter().any(|label| line.starts_with(label));
        let code = if is_label { "" } else { line.split(['#', '/']).next().unwrap() };
        let mut at = 0;
        while let Some(start) = code[at..].find(|c: char| c.is_ascii_digit()).map(|n| n + at) {
            let length = code[start..]
                .find(|c: char| !c.is_ascii_digit() && c != '_')
                .unwrap_or(code.len() - start);
            at = start + length;
            // A digit within a name, such as `score_e4`, is no number.
            let is_name = code[..start].ends_with(|c: char| c.is_alphanumeric() || c == '_');
            if is_name || offset + start < from {
                continue;
            }
            let number: i64 = code[start..at].replace('_', "").parse().unwrap();
            for moved in [number - 1, number + 1] {
                let mut mutant = text.to_owned();
                mutant.replace_range(offset + start..offset + at, &moved.to_string());
                mutants.push((format!("{number} as {moved} in {:?}", line.trim()), mutant));
            }
        }
        offset += line.len();
    }
    mutants
}

/// The text without each of its rules; they begin with `@id` and end with a semicolon.
fn rules_taken_away(text: &str) -> Vec<(String, String)> {
    let starts: Vec<_> = text.match_indices("@id(").map(|(at, _)| at).collect();
    let without = |start: &usize| {
        let end = start + text[*start..].find(";\n").unwrap() + 2;
        let name = text[*start..].lines().next().unwrap().to_owned();
        (format!("that {name} is gone"), [&text[..*start], &text[end..]].concat())
    };
    starts.iter().map(without).collect()
}

/// `UPDATE=1 cargo test policy` writes the documents anew.
#[test]
fn the_documents_of_the_packs_say_what_the_packs_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for dir in fs::read_dir(root.join("policies")).unwrap() {
        let dir = dir.unwrap();
        let expected = document(&PolicyPack::load(&dir.path()).unwrap());
        let name = dir.file_name().into_string().unwrap();
        let path = root.join("docs/rules").join(format!("{name}.md"));
        if std::env::var_os("UPDATE").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &expected).unwrap();
        }
        let found = fs::read_to_string(&path).unwrap_or_default();
        assert!(found == expected, "docs/rules/{name}.md is stale: UPDATE=1 cargo test policy");
    }
}

/// A schema can name facts only, as what they are.
#[test]
fn a_schema_that_names_no_facts_is_refused() {
    for (from, to, finding) in [
        ("amount_minor: Long,", "amount_minor: Long,\n  shoe_size: Long,", "shoe_size is no fact"),
        ("currency: String,", "currency: Long,", "currency is a String, not a Long"),
        ("strength_db?: Long,", "strength_db: Long,", "strength_db must be optional"),
        ("amount_minor: Long,", "amount_minor?: Long,", "amount_minor is never missing"),
        ("bars: Bars,", "bars?: Bars,", "bars is a record and must not be optional"),
        ("liveness: String,", "liveness: Set<String>,", "liveness is a String, not a Set<String>"),
        ("bars: Bars,", "bars: Bars,\n  registers: Set<Long>,", "registers is a Set<String>"),
    ] {
        let mut files = dev_files();
        let schema = files.get_mut("schema.cedarschema").unwrap();
        assert!(schema.contains(from), "{from}");
        *schema = schema.replacen(from, to, 1);
        // The rules of the pack would not fit the altered schema either.
        files.retain(|name, _| Path::new(name).extension().is_none_or(|found| found != "cedar"));
        let refused = PolicyPack::from_files(&files).unwrap_err();
        assert!(refused.to_string().contains(finding), "{refused}");
    }
}

/// What a cap counts is found out only where the schema names it.
#[test]
fn a_cap_that_counts_what_the_schema_does_not_name_is_refused() {
    let mut files = files_of(&dev_dir().with_file_name("ru-cbr-2025-09"));
    let schema = files.get_mut("schema.cedarschema").unwrap();
    *schema = schema.replace("day: Sum, month: Sum", "day: Sum");
    let refused = PolicyPack::from_files(&files).unwrap_err();
    let finding =
        "a cap counts turnover.customer.withdrawals.month, which the schema does not name";
    assert!(refused.to_string().contains(finding), "{refused}");
}

/// What no rule in force mentions need not be found out, though the schema names it.
#[test]
fn a_pack_asks_what_its_rules_in_force_mention() {
    let pack = PolicyPack::embedded_dev().unwrap();
    assert!(pack.asks("strength_db") && pack.asks("bars.required_db") && pack.asks("bars"));
    assert!(!pack.asks("strength") && !pack.asks("bars.required"));
    assert!(!pack.asks("device_level") && pack.sees("device_level"));
    let rule = r#"@id("more") @outcome("DENIED") @reason("POL_AMOUNT")
        forbid (principal, action, resource) when { context.device_level == "none" };"#;
    assert!(dev_with(rule).asks("device_level"));
    let mut files = dev_files();
    files.insert("99-more.cedar".to_owned(), rule.to_owned());
    let state = "[rules.more]\nin_force = false\nlegal_basis = \"none yet\"\n";
    files.get_mut("pack.toml").unwrap().push_str(state);
    let off = PolicyPack::from_files(&files).unwrap();
    assert!(!off.asks("device_level"), "the rule is switched off");
    // A cap asks what it counts.
    let capped = PolicyPack::load(&dev_dir().with_file_name("ru-cbr-2025-09")).unwrap();
    assert!(capped.asks("turnover.customer.withdrawals.month"));
    assert!(!capped.asks("turnover.customer.deposits.month"));
}

/// The command that authors run, on a good pack and on one whose case does not hold.
#[test]
fn the_policy_command_says_what_is_good_and_what_is_not() {
    let tulga = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tulga"));
        let output = command.arg("policy").args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let dev = dev_dir();
    let dev = dev.to_str().unwrap();
    let (code, said) = tulga(&["test", dev]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.starts_with("good  dev version 1: "), "{said}");
    let dir = tempfile::tempdir().unwrap();
    for (name, mut text) in dev_files() {
        if name == "pack.toml" {
            text = text.replace("required_db = 40", "required_db = 41");
        }
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let altered = dir.path().to_str().unwrap();
    assert_eq!(tulga(&["validate", altered]).0, Some(0), "the rules themselves are sound");
    let (code, said) = tulga(&["test", dev, altered]);
    assert_eq!(code, Some(1));
    assert!(said.contains("a match just strong enough: expected APPROVED"), "{said}");
    let (code, said) = tulga(&["test", altered, "--json"]);
    let report: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &report[0]["code"]), (Some(1), &"PACK_CASES".into()));
    assert_eq!(tulga(&["test", "/no/such/folder"]).0, Some(64));
}
