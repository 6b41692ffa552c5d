#!/usr/bin/env node
// Verifies one receipt with its proof by Node's WebCrypto, sharing no code with the gateway or its page.
//
//     node verify_receipt.mjs RECEIPT PROOF KEYS_DIR TRUST
//
// RECEIPT is a compact JWS, PROOF a c2sp.org/tlog-proof@v1, KEYS_DIR holds keys.json and keys.json.sig, TRUST is
// the published fingerprint of the root key. Needs Node 18. JSON.parse takes a key that stands twice; the
// receipt's signer is trusted not to write one (verify_receipt.py does not trust it).
import { webcrypto } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";

// Node 18 has it under another name.
const { subtle } = globalThis.crypto ?? webcrypto;
const refuse = (why) => {
  throw new Error(why);
};
const need = (condition, why) => condition || refuse(why);
const ascii = (text) => new TextEncoder().encode(text);
const base64 = (text) => new Uint8Array(Buffer.from(text, "base64"));
const sha256 = async (...parts) => new Uint8Array(await subtle.digest("SHA-256", Buffer.concat(parts.map((part) => Uint8Array.from(part)))));
const same = (a, b) => Buffer.from(a).equals(Buffer.from(b));

// The register says how a key signs; a P-256 signature is r and s, 32 bytes each.
const ALGORITHMS = {
  EdDSA: [{ name: "Ed25519" }, { name: "Ed25519" }],
  ES256: [{ name: "ECDSA", namedCurve: "P-256" }, { name: "ECDSA", hash: "SHA-256" }],
};

async function signed(record, signature, message) {
  const [kind, how] = ALGORITHMS[record.alg] ?? refuse("an unknown algorithm");
  const key = await subtle.importKey("spki", spki(record), kind, true, ["verify"]);
  return subtle.verify(how, key, signature, message);
}

const spki = ({ spki_pem: pem }) => base64(pem.replace(/-----[^-]+-----/g, ""));

function covers({ origins }, origin, index) {
  const within = (it) => it.origin === origin && it.first_index <= index && index <= (it.last_index ?? Infinity);
  return origins.some(within);
}

async function readRegister(dir, trust) {
  const bytes = readFileSync(join(dir, "keys.json"));
  const { keys } = JSON.parse(bytes);
  for (const key of keys.filter((it) => it.use === "root")) {
    if (Buffer.from(await sha256(spki(key))).toString("hex") !== trust.replace("sha256:", "").toLowerCase()) continue;
    const signature = base64(readFileSync(join(dir, "keys.json.sig"), "ascii"));
    need(await signed(key, signature, bytes), "keys.json is not signed by the root key");
    return keys;
  }
  return refuse("keys.json names no root key with the trusted fingerprint");
}

async function readReceipt(jws, keys) {
  const [header, payload, signature, ...more] = jws.split(".");
  need(signature && more.length === 0, "not a compact JWS");
  const { alg, kid } = JSON.parse(Buffer.from(header, "base64url"));
  const wanted = `{"alg":"${alg}","kid":"${kid}","typ":"tulga-receipt+jwt"}`;
  need(Buffer.from(wanted).toString("base64url") === header, "the header is not that of a receipt");
  const key = keys.find((it) => it.kid === kid && it.use === "receipt") ?? refuse("no such receipt key");
  need(key.alg === (alg === "Ed25519" ? "EdDSA" : alg), "the header names another algorithm than the register");
  const bytes = new Uint8Array(Buffer.from(signature, "base64url"));
  need(await signed(key, bytes, ascii(`${header}.${payload}`)), "the receipt's signature does not verify");
  const body = JSON.parse(Buffer.from(payload, "base64url"));
  need(covers(key, body.log.origin, body.log.index), "the index lies outside the key's range");
  // RFC 3339 in UTC with a fixed number of digits sorts as text.
  need(key.not_before <= body.time && body.time <= (key.not_after ?? body.time), "the time is not the key's");
  return body;
}

async function readCheckpoint(note, keys, wanted) {
  const [text, signatures] = note.split("\n\n");
  const [origin, size, root, ...more] = text.split("\n");
  need(origin === wanted && more.length === 0, "a checkpoint of another ledger");
  for (const key of keys.filter((it) => it.use === "ledger" && covers(it, origin, Math.max(size - 1, 0)))) {
    const id = (await sha256(ascii(`${origin}\n`), [1], spki(key).slice(-32))).slice(0, 4);
    for (const line of signatures.trimEnd().split("\n")) {
      const [mark, name, encoded] = line.split(" ");
      const bytes = base64(encoded);
      if (mark !== "\u2014" || name !== origin || !same(bytes.slice(0, 4), id)) continue;
      need(await signed(key, bytes.slice(4), ascii(`${text}\n`)), "the checkpoint's signature does not verify");
      return { size: Number(size), root: base64(root) };
    }
  }
  return refuse("no ledger key signed the checkpoint");
}

// RFC 9162, 2.1.3.2.
async function checkInclusion(leaf, index, path, { size, root }) {
  need(index < size, "the index lies outside the checkpoint");
  let [at, last, hash] = [index, size - 1, leaf];
  const up = () => ([at, last] = [Math.floor(at / 2), Math.floor(last / 2)]);
  for (const sibling of path) {
    need(last > 0, "the path is too long");
    const isRight = at % 2 === 1 || at === last;
    hash = isRight ? await sha256([1], sibling, hash) : await sha256([1], hash, sibling);
    while (isRight && at % 2 === 0 && at > 0) up();
    up();
  }
  need(last === 0 && same(hash, root), "the receipt is not in the ledger at that place");
}

async function main([receipt, proof, dir, trust]) {
  const keys = await readRegister(dir, trust);
  const jws = readFileSync(receipt, "ascii").trim();
  const body = await readReceipt(jws, keys);
  const [, head, note] = /^([^]*?)\n\n([^]*)$/.exec(readFileSync(proof, "utf8")) ?? refuse("not a tlog-proof");
  const [mark, place, ...path] = head.split("\n");
  need(mark === "c2sp.org/tlog-proof@v1", "not a tlog-proof");
  need(place === `index ${body.log.index}`, "a proof of another index");
  const checkpoint = await readCheckpoint(note, keys, body.log.origin);
  const leaf = await sha256([0], ascii("tulga-receipt-v1\n"), await sha256(ascii(jws)));
  await checkInclusion(leaf, body.log.index, path.map(base64), checkpoint);
  return `ok: receipt ${body.rid} (${body.kind}) is entry ${body.log.index} of ${checkpoint.size}`;
}

try {
  console.log(await main(process.argv.slice(2)));
} catch (fault) {
  console.error(`REFUSED: ${fault.message}`);
  process.exit(1);
}
