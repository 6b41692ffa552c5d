// Receipts and the key register, and one receipt verified with its proof.

const JWS_BYTES_MAX = 16 * 1024;
const REGISTER_BYTES_MAX = 4 * 1024 * 1024;

const REFERS = { rid: isText, index: isCount, "origin?": isText };
const ACTOR = { role: isText, name: isText, cert: isText };
const TXN = { commit: isText, op: isText, amount_minor: isInteger, currency: isText };
const REPORTING_TERMINAL = { id: isText, cert: isText };
const RANGE = { first: isCount, last: isCount, "origin?": isText };
const DECISION = {
  txn: TXN,
  "subject?": isText,
  policy: { id: isText, version: isInteger, hash: isText, "registers?": [{ name: isText, hash: isText }] },
  build: isText,
  outcome: isText,
  "cap?": { amount_minor: isInteger, until: isText },
  reasons: [isText],
  "refers?": REFERS,
  "confirmation?": { by: isText, at: isText, ref: REFERS },
  audit: isText,
};

/// What each kind of receipt has of its own.
const KINDS = {
  verification: {
    ...DECISION,
    terminal: { id: isText, cert: isText, "sensor?": isText, challenge: isText, "envelope?": isText },
    "guest?": isText,
    bio: { modality: isText, models: [isText], required_db: isInteger },
    "footage?": isText,
  },
  exception: { ...DECISION, terminal: REPORTING_TERMINAL },
  outcome: {
    refers: REFERS,
    outcome: isText,
    dispensed_minor: isInteger,
    currency: isText,
    terminal: REPORTING_TERMINAL,
    "footage?": isText,
  },
  administration: { act: isText, actor: ACTOR, "subject?": isText, "details?": isText },
  erasure: {
    actor: ACTOR,
    "subject?": isText,
    "bodies?": [RANGE],
    "footage?": [RANGE],
    "evidence?": [RANGE],
    reason: isText,
  },
  redemption: { refers: REFERS, actor: ACTOR },
  reversal: { refers: REFERS, moved_minor: isInteger, currency: isText, actor: ACTOR },
};

const COMMON = {
  v: isInteger,
  rid: isText,
  kind: isText,
  iss: isText,
  "aud?": isText,
  time: isText,
  "valid_until?": isText,
  tenant: isText,
  log: {
    origin: isText,
    index: isCount,
    prior_size: isCount,
    prior_root: isText,
    "witnessed?": { size: isCount, time: isText },
  },
};

/// Milliseconds of an instant written in the one way that receipts write it; null for anything else.
function instant(text) {
  const time = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/.test(text) ? Date.parse(text) : NaN;
  return Number.isNaN(time) || new Date(time).toISOString() !== text ? null : time;
}

/// Reads a receipt; its signature is not checked yet.
function parseReceipt(jws) {
  need(jws.length <= JWS_BYTES_MAX, "receipt-malformed");
  const parts = jws.split(".");
  const [header, payload, signature] = parts.map(fromBase64url);
  need(parts.length === 3 && header && payload && signature, "receipt-malformed");
  const { alg, kid } = headerOf(header);
  let body;
  try {
    body = StrictJson.parse(payload);
  } catch {
    throw new Refused("receipt-malformed");
  }
  need(fits(body, COMMON), "receipt-malformed");
  need(body.v === 1 && Object.hasOwn(KINDS, body.kind), "receipt-kind", body.kind);
  need(fits(body, KINDS[body.kind]), "receipt-malformed");
  const time = instant(body.time);
  const priorRoot = fromBase64(body.log.prior_root);
  const isWhole =
    fromBase64url(body.rid)?.length === 16 &&
    time !== null &&
    (body.valid_until === undefined || instant(body.valid_until) !== null) &&
    body.log.prior_size <= body.log.index &&
    priorRoot?.length === 32;
  need(isWhole, "receipt-malformed");
  return { jws, alg, kid, signed: utf8(`${parts[0]}.${parts[1]}`), signature, body, time, priorRoot };
}

/// The header is byte for byte one of three. RFC 9864 renames `EdDSA` with this curve to `Ed25519`.
function headerOf(bytes) {
  const pattern = /^\{"alg":"(EdDSA|Ed25519|ES256)","kid":"([A-Za-z0-9._-]{1,64})","typ":"tulga-receipt\+jwt"\}$/;
  const [, alg, kid] = pattern.exec(textOf(bytes) ?? "") ?? [];
  need(kid, "receipt-header");
  return { alg: alg === "ES256" ? alg : "EdDSA", kid };
}

/// Checks the signature, and that the key might sign at this place and time.
async function verifyReceipt(receipt, register) {
  const { kid, alg, body, time } = receipt;
  const key = register.keys.get(kid);
  need(key, "key-unknown", kid);
  need(key.use === "receipt", "key-use", kid);
  // The register says which algorithm a key has; a header that says another is not believed.
  need(key.key.alg === alg, "key-alg", kid);
  need(await key.key.verify(receipt.signed, receipt.signature), "signature", kid);
  need(covers(key, body.log.origin, body.log.index), "key-range", kid);
  need(key.notBefore <= time && time <= key.notAfter, "key-time", kid);
}

function covers(key, origin, index) {
  return key.origins.some(
    (range) => range.origin === origin && range.first_index <= index && index <= (range.last_index ?? Infinity),
  );
}

const REGISTER = {
  keys: [
    {
      kid: (value) => isText(value) && /^[A-Za-z0-9._-]{1,64}$/.test(value),
      alg: (value) => value === "EdDSA" || value === "ES256",
      use: (value) => ["receipt", "ledger", "witness", "root"].includes(value),
      spki_pem: isText,
      not_before: isText,
      "not_after?": isText,
      origins: [{ origin: isText, first_index: isCount, "last_index?": isCount }],
      status: (value) => ["active", "retired", "revoked"].includes(value),
    },
  ],
};

/// Reads `keys.json`; whether to believe it is for `trustRegister` to say.
function parseRegister(bytes) {
  need(bytes.length <= REGISTER_BYTES_MAX, "register-malformed");
  let register;
  try {
    register = StrictJson.parse(bytes);
  } catch {
    throw new Refused("register-malformed");
  }
  need(fits(register, REGISTER), "register-malformed");
  const keys = new Map();
  for (const record of register.keys) {
    const key = PublicKey.fromPem(record.spki_pem);
    const notBefore = instantOf(record.not_before);
    const notAfter = record.not_after === undefined ? Infinity : instantOf(record.not_after);
    const isClosed = (range) => range.last_index === undefined || range.last_index >= range.first_index;
    const mayBe =
      key?.alg === record.alg &&
      notBefore <= notAfter &&
      record.origins.every(isClosed) &&
      (record.status === "active" || record.origins.every((range) => range.last_index !== undefined)) &&
      !keys.has(record.kid);
    need(mayBe, "register-malformed", record.kid);
    keys.set(record.kid, { ...record, key, notBefore, notAfter });
  }
  return { bytes, keys };
}

/// Milliseconds of any RFC 3339 instant; NaN, which no comparison holds for, for anything else.
function instantOf(text) {
  return /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/.test(text) ? Date.parse(text) : NaN;
}

/// 64 hexadecimal digits of `sha256:<digits>` or of the digits alone; null for anything else.
function parseTrust(text) {
  const digits = text.trim().replace(/^sha256:/, "");
  return /^[0-9a-fA-F]{64}$/.test(digits) ? digits.toLowerCase() : null;
}

/// Checks that the root key of the trusted fingerprint signed the register.
async function trustRegister(register, signatureText, trust) {
  const roots = [];
  for (const key of register.keys.values()) {
    if (key.use === "root" && (await key.key.fingerprint()) === trust) roots.push(key);
  }
  need(roots.length > 0, "register-untrusted");
  const signature = fromBase64((signatureText ?? "").replace(/\n$/, ""));
  const holds = signature && (await roots[0].key.verify(register.bytes, signature));
  need(holds, "register-signature", roots[0].kid);
}

/// What is verified of one receipt, step by step: each step is good, bad with its rule, or not asked.
class Steps {
  constructor(names) {
    this.list = names.map((name) => ({ name, state: "none", rule: null, detail: "" }));
  }

  /// Runs a step; undefined when it refuses.
  async run(name, step) {
    const entry = this.list.find((it) => it.name === name);
    try {
      const value = await step();
      entry.state = "good";
      return value;
    } catch (fault) {
      if (!(fault instanceof Refused)) throw fault;
      Object.assign(entry, { state: "bad", rule: fault.rule, detail: fault.detail });
      return undefined;
    }
  }

  /// What was only begun is as if it had not been asked.
  forget(name) {
    this.list.find((it) => it.name === name).state = "none";
  }

  state(name) {
    return this.list.find((it) => it.name === name).state;
  }
}

/// Verifies one receipt. `files` has `receipt` (text), `register` and `registerSignature`, and where
/// they were given `proof` (text) and `policy`, with `isPolicyInside` where that is not from elsewhere; `trust`
/// is 64 hexadecimal digits.
async function verifySingle(files, trust) {
  const steps = new Steps(["register", "receipt", "signature", "proof", "checkpoint", "witness"]);
  // A receipt in a file may end with a newline, which is not part of it.
  const jws = files.receipt.replace(/\r?\n$/, "");
  const register = await steps.run("register", async () => {
    need(files.register && files.registerSignature, "register-missing");
    const register = parseRegister(files.register);
    need(trust !== null, "trust-missing");
    await trustRegister(register, textOf(files.registerSignature), trust);
    return register;
  });
  const receipt = await steps.run("receipt", async () => parseReceipt(jws));
  let checkpoint;
  let times = new Map();
  const notices = [];
  if (receipt && register) {
    await steps.run("signature", () => verifyReceipt(receipt, register));
    if (files.proof !== undefined) checkpoint = await checkProof(steps, files.proof, receipt, register);
    if (checkpoint && files.policy) {
      await steps.run("witness", async () => {
        const policy = await parsePolicy(files.policy);
        need(namesLedger(policy, checkpoint.origin, register), "policy-ledger", checkpoint.origin);
        times = await cosignaturesOf(checkpoint, policy);
        need(policy.quorum !== "none", "quorum-none");
        need(quorumTime(policy, times) !== null, "quorum", String(times.size));
      });
      if (files.isPolicyInside) notices.push("policy-inside");
      // Whom the bank's own files call witnesses proves nothing.
      if (files.isPolicyInside && steps.state("witness") === "good") {
        steps.forget("witness");
        times = new Map();
      }
    }
  }
  const isGood = (...names) => names.every((name) => steps.state(name) === "good");
  const signed = isGood("register", "receipt", "signature");
  const logged = signed && isGood("proof", "checkpoint");
  return {
    kind: "receipt",
    steps: steps.list,
    notices,
    findings: steps.list.filter((step) => step.state === "bad").map(({ rule, detail }) => ({ rule, detail })),
    levels: { signed, logged, witnessed: logged && isGood("witness") },
    receipt: receipt ?? null,
    checkpoint: checkpoint ? { origin: checkpoint.origin, size: checkpoint.size, times: [...times] } : null,
  };
}

async function checkProof(steps, text, receipt, register) {
  const { origin, index } = receipt.body.log;
  const proof = await steps.run("proof", async () => {
    const proof = parseProof(text);
    need(proof.index === index, "proof-index", String(proof.index));
    return proof;
  });
  if (!proof) return undefined;
  const checkpoint = await steps.run("checkpoint", () => openCheckpoint(proof.checkpoint, register, { origin }));
  if (!checkpoint) {
    steps.forget("proof");
    return undefined;
  }
  await steps.run("proof", async () => {
    const leaf = await leafOf(await entryOf(receipt.jws));
    await checkInclusion(leaf, index, checkpoint.size, proof.path, checkpoint.root);
  });
  return checkpoint;
}
