// Runs the verifying half of the auditor's page in Node, without a browser, and checks its texts.
//
//     node page_node.mjs PAGE CASES
//
// PAGE is the page as `tulga audit page` writes it, CASES a list of {name, folder, dir, trust, policy,
// verdict, rule, levels}. Prints what each case came to that should have come to something else.
import { webcrypto } from "node:crypto";
import { readFileSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";

// Node 18 has it under another name.
globalThis.crypto ??= webcrypto;

const [pageFile, casesFile] = process.argv.slice(2);
const html = readFileSync(pageFile, "utf8");
const script = (id) => html.split(`<script id="${id}">`)[1].split("</script>")[0];

const verifier = new Function(`${script("verifier")}
return { verifySingle, verifyFolder, parseTrust, missingCrypto, Refused, StrictJson, fromBase64, fromBase64url, utf8 };`)();
// Only the tables of the second half: it needs a document.
const words = script("page").split("// The page: takes files")[0];
const texts = new Function(`${words}\nreturn { WORDS, VALUES, FAULTS, REMEDIES, MONTHS, REASONS };`)();

const faults = [];
const expect = (condition, what) => condition || faults.push(what);

function checkTexts() {
  const isText = (text) => typeof text === "string" && text.trim() !== "";
  const isAll = (list) => Array.isArray(list) && list.length === 3 && list.every(isText);
  for (const [key, list] of Object.entries(texts.WORDS)) expect(isAll(list), `words: ${key}`);
  for (const [name, values] of Object.entries(texts.VALUES)) {
    for (const [key, list] of Object.entries(values)) expect(isAll(list), `values: ${name}.${key}`);
  }
  for (const [rule, [list, remedy]] of Object.entries(texts.FAULTS)) {
    expect(isAll(list) && isAll(texts.REMEDIES[remedy]), `faults: ${rule}`);
  }
  for (const [code, list] of Object.entries(texts.REASONS)) expect(isAll(list), `reasons: ${code}`);
  expect(texts.MONTHS.every((list) => list.length === 12), "months");
  // Every rule that the verifier can name has a text, and no text is of no rule.
  const source = script("verifier").replace(/^\s*\/\/.*$/gm, "");
  const quoted = new Set([...source.matchAll(/"([a-z]+(?:-[a-z]+)*)"/g)].map(([, word]) => word));
  // A definition has a default where a call has a rule.
  const isRule = (text) => text.includes('detail = ""') || [...text.matchAll(/"([a-z-]+)"/g)].some(([, word]) => texts.FAULTS[word]);
  for (const [call] of source.matchAll(/\b(?:need|add|Refused)\([^;]*?"[^;]*;/g)) expect(isRule(call), `no text for ${call}`);
  for (const rule of Object.keys(texts.FAULTS)) expect(quoted.has(rule), `no rule for the text ${rule}`);
  // What the page asks for by name is there.
  const used = [...script("page").matchAll(/\bsay\("([A-Za-z-]+)"/g), ...html.matchAll(/data-text="([A-Za-z]+)"/g)];
  for (const [, key] of used) expect(texts.WORDS[key], `no words for ${key}`);
}

function checkStrictness() {
  const reads = (text) => {
    try {
      return verifier.StrictJson.parse(verifier.utf8(text)) !== undefined;
    } catch {
      return false;
    }
  };
  const good = ['{"a":[1,"x",true,-5],"b":{"a":1}}', '{"__proto__":1,"constructor":2}', '{"a":9223372036854775807}', ' [ ] '];
  const bad = [
    '{"a":1,"a":1}', '{"b":[{"a":1,"\\u0061":1}]}', '{"a":1.0}', '{"a":1e3}', '{"a":-0}', '{"a":9223372036854775808}',
    '{"a":null}', '{"a":01}', '{"a":1} "x"', '{"a":"\\ud800"}', '{"a":"\n"}', "{'a':1}", '{"a":1,}', "[".repeat(4000), "",
    "\ufeff{}", '{"__proto__":1,"__proto__":2}',
  ];
  for (const text of good) expect(reads(text), `strict JSON refuses ${text}`);
  for (const text of bad) expect(!reads(text), `strict JSON takes ${text.slice(0, 40)}`);
  for (const text of ["AA==", "AAA=", "AAAA", ""]) expect(verifier.fromBase64(text), `base64 refuses ${text}`);
  for (const text of ["AA", "AB==", "AAAA=", "A===", "=", "A A=", "AA-_", "AAB="]) expect(!verifier.fromBase64(text), `base64 takes ${text}`);
  for (const text of ["AB", "A", "AA==", "AA+/"]) expect(!verifier.fromBase64url(text), `base64url takes ${text}`);
}

const blob = (file) => new Blob([readFileSync(file)]);

function filesBelow(dir, prefix) {
  return readdirSync(dir).flatMap((name) => {
    const [file, path] = [join(dir, name), `${prefix}/${name}`];
    return statSync(file).isDirectory() ? filesBelow(file, path) : [{ path, file: blob(file) }];
  });
}

async function run({ folder, dir, trust, policy }) {
  const bytes = (name) => {
    try {
      return new Uint8Array(readFileSync(join(dir, name)));
    } catch {
      return undefined;
    }
  };
  const given = policy ? new Uint8Array(readFileSync(policy)) : null;
  const fingerprint = verifier.parseTrust(trust);
  try {
    if (folder) return await verifier.verifyFolder(filesBelow(dir, "export"), fingerprint, given, () => {});
    const text = (name) => bytes(name) && new TextDecoder().decode(bytes(name));
    const files = { receipt: text("receipt.jws"), register: bytes("keys.json"), registerSignature: bytes("keys.json.sig"), policy: given };
    if (bytes("receipt.tlog-proof")) files.proof = text("receipt.tlog-proof");
    return await verifier.verifySingle(files, fingerprint);
  } catch (fault) {
    if (!(fault instanceof verifier.Refused)) throw fault;
    return { findings: [{ rule: fault.rule }], levels: {} };
  }
}

expect((await verifier.missingCrypto()) === null, "this Node has no Ed25519");
checkTexts();
checkStrictness();
const cases = JSON.parse(readFileSync(casesFile, "utf8"));
for (const it of cases) {
  const { findings, levels } = await run(it);
  const verdict = findings.length > 0 ? "bad" : levels.logged ? "good" : "partial";
  const reached = Object.keys(levels).filter((level) => levels[level]);
  const found = `${verdict} ${findings[0]?.rule ?? ""} [${reached}]`;
  const wanted = `${it.verdict} ${it.rule} [${it.levels}]`;
  expect(found === wanted, `${it.name}: ${found}, wanted ${wanted}; ${JSON.stringify(findings)}`);
}
if (faults.length > 0) {
  console.error(faults.join("\n"));
  process.exit(1);
}
console.log(`ok: ${cases.length} cases`);
