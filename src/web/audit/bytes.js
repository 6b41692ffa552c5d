"use strict";
// Bytes, base64, strict JSON, SHA-256 and signatures. Nothing here knows of the page or of receipts.

/// Something that does not verify: a rule's word, and particulars that are shown beside its text.
class Refused extends Error {
  constructor(rule, detail = "") {
    super(detail ? `${rule}: ${detail}` : rule);
    this.rule = rule;
    this.detail = detail;
  }
}

function need(condition, rule, detail = "") {
  if (!condition) throw new Refused(rule, detail);
}

const UTF8 = new TextEncoder();

function utf8(text) {
  return UTF8.encode(text);
}

/// The text of bytes that are UTF-8; null for others.
function textOf(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return null;
  }
}

function concat(...parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

function equal(a, b) {
  return a.length === b.length && a.every((byte, place) => byte === b[place]);
}

function hex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const BASE64URL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

function valuesOf(alphabet) {
  const values = new Int8Array(128).fill(-1);
  for (let value = 0; value < 64; value += 1) values[alphabet.charCodeAt(value)] = value;
  return values;
}

const BASE64_VALUES = valuesOf(BASE64);
const BASE64URL_VALUES = valuesOf(BASE64URL);

/// Bytes of base64 with neither padding nor stray bits; null for anything else.
function decodeDigits(text, values) {
  const length = text.length;
  if (length % 4 === 1) return null;
  const bytes = new Uint8Array(Math.floor((length * 3) / 4));
  let bits = 0;
  let held = 0;
  let at = 0;
  for (let place = 0; place < length; place += 1) {
    const code = text.charCodeAt(place);
    const value = code < 128 ? values[code] : -1;
    if (value < 0) return null;
    held = ((held << 6) | value) & 0xffff;
    bits += 6;
    if (bits >= 8) {
      bits -= 8;
      bytes[at] = (held >> bits) & 0xff;
      at += 1;
    }
  }
  return (held & ((1 << bits) - 1)) === 0 ? bytes : null;
}

/// Unpadded base64url, in the one way to write it.
function fromBase64url(text) {
  return decodeDigits(text, BASE64URL_VALUES);
}

/// Padded base64, in the one way to write it.
function fromBase64(text) {
  const digits = text.replace(/={1,2}$/, "");
  const isPadded = text.length % 4 === 0 && text.length - digits.length === (4 - (digits.length % 4)) % 4;
  return isPadded ? decodeDigits(digits, BASE64_VALUES) : null;
}

function toBase64(bytes) {
  let text = "";
  for (let at = 0; at < bytes.length; at += 3) {
    const [a, b = 0, c = 0] = bytes.subarray(at, at + 3);
    text += BASE64[a >> 2] + BASE64[((a & 3) << 4) | (b >> 4)];
    text += at + 1 < bytes.length ? BASE64[((b & 15) << 2) | (c >> 6)] : "=";
    text += at + 2 < bytes.length ? BASE64[c & 63] : "=";
  }
  return text;
}

function toBase64url(bytes) {
  return toBase64(bytes).replace(/\+/g, "-").replace(/\//g, "_").replace(/=/g, "");
}

/// A number below 2^53 without leading zeros or sign; null for anything else.
function decimal(text) {
  const number = /^(0|[1-9][0-9]{0,15})$/.test(text) ? Number(text) : NaN;
  return Number.isSafeInteger(number) ? number : null;
}

/// Reads JSON in which nothing can be said twice: no duplicate keys, no floats, no null, no integer
/// beyond 64 bits. `JSON.parse` takes all of them. Integers beyond 2^53 become BigInt.
class StrictJson {
  static DEPTH_MAX = 100;

  constructor(text) {
    this.text = text;
    this.at = 0;
  }

  static parse(bytes) {
    const text = textOf(bytes);
    if (text === null) throw new SyntaxError("not UTF-8");
    const reader = new StrictJson(text);
    const value = reader.value(0);
    reader.space();
    if (reader.at !== text.length) throw new SyntaxError("more behind the end");
    return value;
  }

  space() {
    while (" \n\t\r".includes(this.text[this.at] ?? "x")) this.at += 1;
  }

  take(mark) {
    this.space();
    if (this.text[this.at] !== mark) return false;
    this.at += 1;
    return true;
  }

  expect(mark) {
    if (!this.take(mark)) throw new SyntaxError(`no ${mark} at ${this.at}`);
  }

  value(depth) {
    if (depth > StrictJson.DEPTH_MAX) throw new SyntaxError("too deep");
    this.space();
    const first = this.text[this.at];
    if (first === "{") return this.object(depth);
    if (first === "[") return this.list(depth);
    if (first === '"') return this.string();
    for (const [word, value] of [["true", true], ["false", false]]) {
      if (this.text.startsWith(word, this.at)) {
        this.at += word.length;
        return value;
      }
    }
    return this.integer();
  }

  object(depth) {
    this.expect("{");
    // Without a prototype no key has a meaning of its own.
    const object = Object.create(null);
    if (this.take("}")) return object;
    do {
      this.space();
      const key = this.string();
      if (key in object) throw new SyntaxError("a key stands twice");
      this.expect(":");
      object[key] = this.value(depth + 1);
    } while (this.take(","));
    this.expect("}");
    return object;
  }

  list(depth) {
    this.expect("[");
    const list = [];
    if (this.take("]")) return list;
    do list.push(this.value(depth + 1));
    while (this.take(","));
    this.expect("]");
    return list;
  }

  string() {
    const found = this.match(/"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y);
    const text = JSON.parse(found);
    if (/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/.test(text)) {
      throw new SyntaxError("half of a character");
    }
    return text;
  }

  integer() {
    const found = this.match(/-?(?:0|[1-9][0-9]{0,18})/y);
    if (/[0-9.eE]/.test(this.text[this.at] ?? "") || found === "-0") throw new SyntaxError("not an integer");
    const number = Number(found);
    if (Number.isSafeInteger(number)) return number;
    const large = BigInt(found);
    if (BigInt.asIntN(64, large) !== large) throw new SyntaxError("an integer beyond 64 bits");
    return large;
  }

  match(pattern) {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text);
    if (!found) throw new SyntaxError(`nothing known at ${this.at}`);
    this.at = pattern.lastIndex;
    return found[0];
  }
}

/// Whether a value has a shape: a test, a list of one shape, or an object of shapes; a key that ends
/// with `?` may be missing, keys that are not named are left alone.
function fits(value, shape) {
  if (typeof shape === "function") return shape(value);
  if (Array.isArray(shape)) return Array.isArray(value) && value.every((item) => fits(item, shape[0]));
  if (value === null || typeof value !== "object" || Array.isArray(value)) return false;
  return Object.entries(shape).every(([name, inner]) => {
    const key = name.replace(/\?$/, "");
    return key in value ? fits(value[key], inner) : name.endsWith("?");
  });
}

const isText = (value) => typeof value === "string";
const isInteger = (value) => Number.isSafeInteger(value) || typeof value === "bigint";
const isCount = (value) => Number.isSafeInteger(value) && value >= 0;

async function sha256(bytes) {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
}

// SubjectPublicKeyInfo of an Ed25519 key (RFC 8410) and of an uncompressed P-256 point (RFC 5480).
const ED25519_SPKI = new Uint8Array([0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00]);
const P256_SPKI = new Uint8Array([
  0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
  0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
]);

/// A public key of one of the two kinds.
class PublicKey {
  constructor(alg, bytes) {
    this.alg = alg;
    this.bytes = bytes;
    this.imported = null;
  }

  /// Reads `-----BEGIN PUBLIC KEY-----`; null for another kind of key, or one written otherwise.
  static fromPem(pem) {
    const found = /^-----BEGIN PUBLIC KEY-----([\s\S]*)-----END PUBLIC KEY-----$/.exec(pem.trim());
    const der = found && fromBase64(found[1].replace(/\s/g, ""));
    if (!der) return null;
    for (const [alg, prefix, length] of [["EdDSA", ED25519_SPKI, 32], ["ES256", P256_SPKI, 65]]) {
      const key = der.subarray(prefix.length);
      const isIt = equal(der.subarray(0, prefix.length), prefix) && key.length === length;
      if (isIt && (alg === "EdDSA" || key[0] === 4)) return new PublicKey(alg, key);
    }
    return null;
  }

  async fingerprint() {
    const prefix = this.alg === "EdDSA" ? ED25519_SPKI : P256_SPKI;
    return hex(await sha256(concat(prefix, this.bytes)));
  }

  /// Whether 64 bytes are this key's signature of the message.
  async verify(message, signature) {
    if (signature.length !== 64) return false;
    const isEd = this.alg === "EdDSA";
    const [kind, how] = isEd
      ? [{ name: "Ed25519" }, { name: "Ed25519" }]
      : [{ name: "ECDSA", namedCurve: "P-256" }, { name: "ECDSA", hash: "SHA-256" }];
    try {
      this.imported ??= crypto.subtle.importKey("raw", this.bytes, kind, false, ["verify"]);
      return await crypto.subtle.verify(how, await this.imported, signature, message);
    } catch {
      // A point that is not on the curve cannot be imported: it signs nothing.
      return false;
    }
  }
}

/// What this browser lacks: "subtle" without WebCrypto (a page that was not opened from the disk or
/// over https), "ed25519" without that algorithm; null when it can verify.
async function missingCrypto() {
  if (!globalThis.crypto?.subtle) return "subtle";
  // RFC 8032, 7.1, test 2.
  const key = "PUAXw-hDiVqStwqnTRt-vJyYLM8uxJaMwM1V8Sr0Zgw";
  const signature = "kqAJqfDUyrhyDoILX2QlQKKye1QWUD-Ps3YiI-vbadoIWsHkPhWZbkWPNhPQ8R2MOHsurrQwKu6wDSkWErsMAA";
  const works = await new PublicKey("EdDSA", fromBase64url(key)).verify(new Uint8Array([0x72]), fromBase64url(signature));
  return works ? null : "ed25519";
}
