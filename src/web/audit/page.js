// The page: takes files, runs the verifier, says what was found. Every text reaches the document as
// text: nothing of a file is ever read as markup.

const FILES_MAX = 200_000;
const LOOSE_FILES_MAX = 64;
const SHOWN_CHARACTERS_MAX = 20_000;
const SVG = "http://www.w3.org/2000/svg";
const MINOR_DIGITS = { JPY: 0, KRW: 0, VND: 0, UZS: 2, BHD: 3, IQD: 3, JOD: 3, KWD: 3, OMR: 3, TND: 3 };

const at = (id) => document.getElementById(id);

const page = {
  language: firstLanguage(),
  loose: new Map(),
  folder: null,
  policy: null,
  // A policy that came with loose files: not one from elsewhere.
  inside: null,
  unknown: [],
  result: null,
  run: 0,
  // Files given and not yet read: until they are, nothing is said of those before them.
  reading: 0,
  cleared: 0,
  turn: Promise.resolve(),
  shown: { ledger: 0, index: 0 },
};

/// A run that newer files have overtaken.
class Overtaken extends Error {}

function firstLanguage() {
  const tags = [location.hash.slice(1), ...(navigator.languages ?? [])].map((tag) => tag.slice(0, 2).toLowerCase());
  const known = LANGUAGES.map(([tag]) => tag);
  return Math.max(0, known.indexOf(tags.find((tag) => known.includes(tag)) ?? "en"));
}

function fill(texts, ...values) {
  return texts[page.language].replace(/\{(\d)\}/g, (_, number) => values[Number(number)]);
}

const say = (key, ...values) => fill(WORDS[key], ...values);

/// A word of one of the receipt's lists, in words; a word that is not known stands as it is.
function word(list, value) {
  return Object.hasOwn(VALUES[list], value) ? fill(VALUES[list][value]) : printable(value);
}

/// Text from a file without what could steer a screen: controls and marks of direction are spelt out.
function printable(text) {
  const shown = String(text).replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (mark) => `\\u{${mark.codePointAt(0).toString(16)}}`);
  return shown.length > SHOWN_CHARACTERS_MAX ? `${shown.slice(0, SHOWN_CHARACTERS_MAX)}…` : shown;
}

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null) made.setAttribute(name, value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return made;
}

function mark(name) {
  const drawing = document.createElementNS(SVG, "svg");
  drawing.setAttribute("viewBox", "0 0 24 24");
  drawing.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#mark-${name}`);
  drawing.append(use);
  return drawing;
}

const mono = (text) => element("span", { class: "mono" }, printable(text));

/// What a file says, kept apart from the direction of the text about it.
const told = (text) => element("bdi", {}, printable(text));

function date(text) {
  const time = new Date(text);
  if (Number.isNaN(time.getTime())) return printable(text);
  const day = time.getUTCDate();
  const month = MONTHS[page.language][time.getUTCMonth()];
  const year = time.getUTCFullYear();
  const clock = time.toISOString().slice(11, 19);
  const dates = [`${year} жылғы ${day} ${month}, ${clock} UTC`, `${day} ${month} ${year} года, ${clock} UTC`, `${day} ${month} ${year}, ${clock} UTC`];
  return dates[page.language];
}

/// Groups of three digits, as the language writes them.
function digits(number) {
  return String(number).replace(/\B(?=(\d{3})+$)/g, page.language === 2 ? "," : "\u00a0");
}

function money(minor, currency) {
  const [sign, whole] = minor < 0 ? ["−", String(minor).slice(1)] : ["", String(minor)];
  const places = MINOR_DIGITS[currency] ?? 2;
  const padded = whole.padStart(places + 1, "0");
  const cut = padded.length - places;
  const fraction = places === 0 ? "" : (page.language === 2 ? "." : ",") + padded.slice(cut);
  return `${sign}${digits(padded.slice(0, cut))}${fraction}\u00a0${printable(currency)}`;
}

// --- files ----------------------------------------------------------------------------------------

/// Which part of the check a loose file is, by what it holds rather than by its name.
async function roleOf(file) {
  if (file.name === "policy") return "policy";
  if (file.size > REGISTER_BYTES_MAX) return null;
  const text = textOf(new Uint8Array(await file.arrayBuffer())) ?? "";
  if (text.startsWith("c2sp.org/tlog-proof@v1\n")) return "proof";
  if (/^[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\s*$/.test(text)) return "receipt";
  if (/\.sig$/.test(file.name)) return "registerSignature";
  if (file.name === "keys.json" || /^\s*\{\s*"keys"/.test(text)) return "register";
  if (/^\s*quorum\s/m.test(text)) return "policy";
  if (/\.jws$/.test(file.name)) return "receipt";
  return /proof/.test(file.name) ? "proof" : null;
}

/// Takes `{path, file}` of what was chosen or dropped, in the order given, and checks when all is read.
function take(entries) {
  if (entries.length === 0) return page.turn;
  page.reading += 1;
  page.turn = page.turn
    .catch(() => undefined)
    .then(() => put(entries))
    .finally(() => {
      page.reading -= 1;
      return check();
    });
  return page.turn;
}

/// Puts what was given in its place: a folder, or loose files that join the others.
async function put(entries) {
  const isFolder = entries.some(({ path }) => /(^|\/)receipts\.jws$/.test(path));
  if (isFolder) {
    // A policy that came with the folder is not one from elsewhere.
    page.folder = { entries, name: entries[0].path.split("/", 1)[0] };
    page.inside = null;
    page.loose.clear();
  } else {
    await takeLoose(entries.slice(0, LOOSE_FILES_MAX).map(({ file }) => file));
  }
  page.shown = { ledger: 0, index: 0 };
  draw();
}

/// Takes loose files. A policy is the auditor's own only where it comes alone.
async function takeLoose(files) {
  const { cleared } = page;
  const roles = await Promise.all(files.map(roleOf));
  if (cleared !== page.cleared) return;
  if (files.length === 1 && roles[0] === "policy") {
    page.policy = files[0];
    return;
  }
  if (roles.some(Boolean)) page.inside = null;
  files.forEach((file, number) => {
    const role = roles[number];
    if (role === "policy") page.inside = file;
    else if (role) page.loose.set(role, file);
    else page.unknown.push(file.name);
    if (role && role !== "policy") page.folder = null;
  });
}

/// All files below a dropped item, with their paths.
async function filesBelow(item, entries) {
  if (entries.length >= FILES_MAX) return;
  if (item.isFile) {
    const file = await new Promise((done, fail) => item.file(done, fail));
    entries.push({ path: item.fullPath.replace(/^\//, ""), file });
    return;
  }
  const reader = item.createReader();
  for (;;) {
    const some = await new Promise((done, fail) => reader.readEntries(done, fail));
    if (some.length === 0) return;
    for (const inner of some) await filesBelow(inner, entries);
  }
}

async function dropped(transfer) {
  const items = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const entries = [];
  for (const item of items) await filesBelow(item, entries);
  const plain = [...transfer.files].map((file) => ({ path: file.name, file }));
  await take(items.length > 0 ? entries : plain);
}

function clear() {
  page.loose.clear();
  Object.assign(page, { folder: null, policy: null, inside: null, unknown: [], result: null, run: page.run + 1, cleared: page.cleared + 1 });
  draw();
}

// --- the check ------------------------------------------------------------------------------------

function isEnough() {
  return page.folder || ["receipt", "register", "registerSignature"].every((role) => page.loose.has(role));
}

/// Verifies what is there, once there is enough of it.
async function check() {
  page.run += 1;
  const run = page.run;
  const trust = parseTrust(at("trust").value);
  page.result = null;
  at("working").hidden = true;
  if (page.reading > 0 || !isEnough() || trust === null || (await missingCrypto())) return draw();
  const progress = (done, total) => {
    if (run !== page.run) throw new Overtaken();
    at("progress").value = total === 0 ? 1 : done / total;
  };
  at("working").hidden = false;
  try {
    const result = page.folder ? await checkFolder(trust, progress) : await checkLoose(trust);
    if (run === page.run) page.result = { ...result, trust, at: new Date().toISOString() };
  } catch (fault) {
    if (fault instanceof Overtaken) return undefined;
    if (!(fault instanceof Refused)) throw fault;
    const finding = { rule: fault.rule, detail: fault.detail, origin: null, index: null };
    page.result = { kind: "refused", findings: [finding], trust, at: new Date().toISOString() };
  } finally {
    if (run === page.run) at("working").hidden = true;
  }
  return draw();
}

async function checkLoose(trust) {
  const bytes = async (file) => (file ? new Uint8Array(await file.arrayBuffer()) : undefined);
  const [receipt, proof, register, registerSignature, policy] = await Promise.all(
    [...["receipt", "proof", "register", "registerSignature"].map((role) => page.loose.get(role)), page.policy ?? page.inside].map(bytes),
  );
  const files = { receipt: textOf(receipt) ?? "", register, registerSignature, policy, isPolicyInside: !page.policy };
  if (proof) files.proof = textOf(proof);
  return verifySingle(files, trust);
}

async function checkFolder(trust, progress) {
  const policy = page.policy && new Uint8Array(await page.policy.arrayBuffer());
  return verifyFolder(page.folder.entries, trust, policy, progress);
}

function verdictOf(result) {
  if (!result) return "none";
  if (result.findings.length > 0) return "bad";
  return result.levels.logged ? "good" : "partial";
}

// --- drawing --------------------------------------------------------------------------------------

function draw() {
  document.documentElement.lang = LANGUAGES[page.language][0];
  document.title = `Tulga · ${say("title")}`;
  for (const node of document.querySelectorAll("[data-text]")) node.textContent = say(node.dataset.text);
  drawGiven();
  const trust = at("trust").value.trim();
  const isWrong = trust !== "" && parseTrust(trust) === null;
  at("trust").setAttribute("aria-invalid", String(isWrong));
  at("trust-fault").hidden = !isWrong;
  const verdict = verdictOf(page.result);
  at("main").dataset.verdict = verdict;
  at("main").dataset.rules = (page.result?.findings ?? []).map(({ rule }) => rule).join(" ");
  at("outcome").replaceChildren(...(page.result ? outcome(page.result, verdict) : waiting()));
  at("announce").textContent = at("verdict")?.textContent ?? "";
}

function drawLanguages() {
  const legend = element("legend", { hidden: true }, say("language"));
  const choices = LANGUAGES.map(([tag, name], number) => {
    const input = element("input", { type: "radio", name: "language", value: tag, checked: number === page.language });
    input.addEventListener("change", () => {
      page.language = number;
      draw();
    });
    return element("label", { lang: tag }, input, name);
  });
  at("languages").setAttribute("aria-label", say("language"));
  at("languages").replaceChildren(legend, ...choices);
}

function drawGiven() {
  const rows = [];
  const row = (what, file, isOptional = false) => {
    const name = file ? told(file) : `${say("notGiven")}${isOptional ? ` · ${say("optional")}` : ""}`;
    const text = element("span", {}, element("span", { class: "what" }, what), element("span", { class: "name quiet" }, name));
    rows.push(element("li", { "data-state": file ? "given" : "missing" }, text));
  };
  if (page.folder) {
    row(say("fileFolder"), `${page.folder.name} · ${say("filesCount", digits(page.folder.entries.length))}`);
  } else if (page.loose.size > 0) {
    row(say("fileReceipt"), page.loose.get("receipt")?.name);
    row(say("fileProof"), page.loose.get("proof")?.name);
    row(say("fileRegister"), page.loose.get("register")?.name);
    row(say("fileRegisterSignature"), page.loose.get("registerSignature")?.name);
  }
  const policy = page.policy ?? (page.folder ? null : page.inside);
  if (rows.length > 0 || policy) row(say("filePolicy"), policy?.name, true);
  for (const name of page.unknown.slice(0, LOOSE_FILES_MAX)) row(say("fileUnknown"), name);
  at("given").replaceChildren(...rows);
  at("given").hidden = rows.length === 0;
  at("clear-row").hidden = rows.length === 0;
}

/// What is still missing before anything can be said.
function waiting() {
  if (!page.folder && page.loose.size === 0) return [];
  const text = isEnough() ? say("waitTrust") : say("waitFiles");
  return at("working").hidden ? [element("p", { class: "card quiet" }, text)] : [];
}

function outcome(result, verdict) {
  if (result.kind === "refused") return [verdictCard(result, verdict, say("folderBad"))];
  return result.kind === "folder" ? folderOutcome(result, verdict) : receiptOutcome(result, verdict);
}

function verdictCard(result, state, heading, ...lines) {
  const [first] = result.findings;
  const why = first ? faultWords(first) : [];
  const text = element("div", {}, element("h2", {}, heading), ...lines.map((line) => element("p", {}, line)), ...why);
  return element("section", { class: "card verdict", "data-state": state, id: "verdict" }, mark(state), text);
}

/// A fault in words, its particulars, and what to do.
function faultWords({ rule, detail }) {
  const [texts, remedy] = FAULTS[rule];
  const particulars = detail ? [" ", mono(`(${detail})`)] : [];
  return [
    element("p", { class: "why" }, fill(texts), ...particulars),
    element("p", { class: "remedy" }, fill(REMEDIES[remedy])),
  ];
}

function levels(items) {
  const boxes = items.map(([name, state, text]) =>
    element("li", { "data-state": state, "data-level": name }, element("div", { class: "head" }, mark(state), say(name)), element("p", {}, text)),
  );
  return element("ul", { class: "levels" }, boxes);
}

function receiptOutcome(result, verdict) {
  const { signed, logged, witnessed } = result.levels;
  const headings = { good: "good", partial: "partial", bad: "bad" };
  const lines = { good: [say(witnessed ? "goodWitnessed" : "goodLogged")], partial: [say("partialWhy"), say("partialRemedy")], bad: [] };
  const witness = result.steps.find((step) => step.name === "witness").state;
  const [notice] = result.notices;
  const unseen = notice ? say(notice) : say("witnessedNone");
  const boxes = levels([
    ["signed", signed ? "good" : "bad", say(signed ? "signedGood" : "signedBad")],
    ["logged", logged ? "good" : verdict === "partial" ? "none" : "bad", say(logged ? "loggedGood" : "loggedBad")],
    ["witnessed", witness, { good: say("witnessedGood"), bad: say("witnessedBad"), none: unseen }[witness]],
  ]);
  const parts = [verdictCard(result, verdict, say(headings[verdict]), ...lines[verdict]), boxes];
  if (result.receipt) parts.push(receiptCard(result.receipt, signed, result.checkpoint));
  parts.push(stepsCard(result), provenance(result));
  return parts;
}

function stepsCard({ steps }) {
  const rows = steps.map((step) => {
    const unchecked = step.state === "none" ? element("span", { class: "quiet" }, ` — ${say("unchecked")}`) : null;
    const words = element("span", {}, say(step.name), unchecked);
    if (step.state === "bad") words.append(element("span", { class: "small" }, faultWords(step)));
    return element("li", { "data-state": step.state, "data-step": step.name }, mark(step.state), words);
  });
  return element("section", { class: "card" }, element("h2", {}, say("checks")), element("ul", { class: "steps" }, rows));
}

/// When this was checked and against what: what a printed sheet must say.
function provenance(result) {
  const print = element("button", { type: "button", class: "plain" }, say("print"));
  print.addEventListener("click", () => window.print());
  return element(
    "section",
    { class: "card small" },
    element("p", {}, say("checkedAt", date(result.at))),
    element("p", { class: "mono" }, say("against", result.trust)),
    element("p", {}, print),
  );
}

function folderOutcome(result, verdict) {
  const { signed, logged, witnessed } = result.levels;
  const count = [...result.counts.values()].reduce((sum, number) => sum + number, 0);
  const heading = verdict === "good" ? say("folderGood") : say("folderBad");
  const line = verdict === "good" ? say("folderGoodWhy", digits(result.entries)) : say("folderBadWhy", digits(count));
  const seen = result.ledgers.reduce((sum, { witnessedSize }) => sum + witnessedSize, 0);
  const witness = witnessed ? say("witnessedGood") : seen > 0 ? say("witnessedPart", digits(seen)) : say("witnessedNone");
  const boxes = levels([
    ["signed", signed ? "good" : "bad", say(signed ? "signedGood" : "signedBad")],
    ["logged", logged ? "good" : "bad", say(logged ? "loggedFolder" : "loggedBad")],
    ["witnessed", witnessed ? "good" : "none", witness],
  ]);
  const parts = [verdictCard(result, verdict, heading, line), boxes];
  if (result.findings.length > 0) parts.push(findingsCard(result));
  for (const ledger of result.ledgers) parts.push(ledgerCard(ledger));
  const notes = [...(witnessed ? [] : [say("unseenTail")]), ...result.notices.map((notice) => say(notice))];
  if (notes.length > 0) {
    const list = element("ul", { class: "notes quiet" }, notes.map((note) => element("li", {}, note)));
    parts.push(element("section", { class: "card small" }, element("h2", {}, say("unseen")), list));
  }
  parts.push(browseCard(result), provenance(result));
  return parts;
}

function findingsCard({ findings, counts, ledgers }) {
  const rows = findings.map((finding) => {
    const place = finding.index === null ? "—" : digits(finding.index);
    const where = ledgers.length > 1 && finding.origin ? element("p", {}, mono(finding.origin)) : null;
    const words = element("td", {}, where, faultWords(finding));
    return element("tr", { "data-rule": finding.rule }, element("td", { class: "at" }, place), words);
  });
  const all = [...counts.values()].reduce((sum, number) => sum + number, 0);
  const more = all > findings.length ? element("p", { class: "quiet" }, say("more", digits(all - findings.length))) : null;
  const head = element("tr", {}, element("th", { scope: "col" }, say("entry")), element("th", { scope: "col" }, say("fault")));
  const table = element("table", {}, element("thead", {}, head), element("tbody", {}, rows));
  return element("section", { class: "card" }, element("h2", {}, say("findings")), element("div", { class: "scroll" }, table), more);
}

function list(rows) {
  return element("dl", {}, rows.filter(([, what]) => what !== null && what !== undefined).map(([name, what]) => [element("dt", {}, name), element("dd", {}, what)]));
}

function ledgerCard(ledger) {
  const kinds = ledger.kinds.map(([kind, count]) => element("li", {}, `${word("kind", kind)}: ${digits(count)}`));
  const span = ledger.first === null ? "—" : `${date(ledger.first)} — ${date(ledger.last)}`;
  return element(
    "section",
    { class: "card" },
    element("h2", {}, say("ledger"), " ", mono(ledger.origin)),
    list([
      [say("entries"), digits(ledger.entries)],
      [say("span"), span],
      [say("kinds"), element("ul", {}, kinds)],
      [say("covered"), ledger.head ? say("coveredWords", digits(ledger.head.size)) : "—"],
      [say("kept"), digits(ledger.checkpoints)],
      [say("erasedBodies"), digits(ledger.erased)],
    ]),
  );
}

/// One entry of a verified folder, by its index.
function browseCard(result) {
  const place = element("div", { "aria-live": "polite" });
  const field = element("input", { type: "number", id: "index", min: "0", step: "1", value: String(page.shown.index) });
  const choice = element("select", { id: "ledger", hidden: result.ledgers.length < 2, "aria-label": say("ledger") },
    result.ledgers.map(({ origin }, number) => element("option", { value: String(number), selected: number === page.shown.ledger }, printable(origin))));
  const show = async (index) => {
    const ledger = result.ledgers[Number(choice.value)];
    page.shown = { ledger: Number(choice.value), index: Math.min(Math.max(0, Math.trunc(index) || 0), Math.max(0, ledger.entries - 1)) };
    field.value = String(page.shown.index);
    const receipt = await receiptAt(ledger.walk, ledger.file, page.shown.index);
    const faulty = result.findings.some((it) => it.index === page.shown.index && it.origin === ledger.origin);
    place.replaceChildren(receipt ? receiptCard(receipt, result.levels.signed && !faulty, null) : element("p", { class: "quiet" }, say("noEntry")));
  };
  const button = (name, step) => {
    const made = element("button", { type: "button", class: "plain", "data-go": name }, say(name));
    made.addEventListener("click", () => show(Number(field.value) + step));
    return made;
  };
  field.addEventListener("change", () => show(Number(field.value)));
  choice.addEventListener("change", () => show(0));
  if (result.ledgers.some(({ entries }) => entries > 0)) show(page.shown.index);
  const row = element("div", { class: "row" }, choice, field, button("show", 0), button("previous", -1), button("next", 1));
  return element("section", { class: "browse" }, element("div", { class: "card" }, element("h2", {}, element("label", { for: "index" }, say("browse"))), row), place);
}
