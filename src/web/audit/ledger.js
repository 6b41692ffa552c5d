// The ledger: RFC 6962 tree, signed notes, checkpoints, inclusion proofs, cosignatures and policies.

const NOTE_BYTES_MAX = 64 * 1024;
const SIGNATURES_MAX = 64;
const PATH_HASHES_MAX = 63;
const POLICY_NAMES_MAX = 256;
const SIGNATURE_MARK = "\u2014 ";
const ENTRY_CONTEXT = "tulga-receipt-v1\n";
const NOTE_ED25519 = 1;
const NOTE_COSIGNATURE = 4;

async function entryOf(jws) {
  return concat(utf8(ENTRY_CONTEXT), await sha256(utf8(jws)));
}

async function leafOf(entry) {
  return sha256(concat(new Uint8Array([0]), entry));
}

async function nodeOf(left, right) {
  const bytes = new Uint8Array(65);
  bytes[0] = 1;
  bytes.set(left, 1);
  bytes.set(right, 33);
  return sha256(bytes);
}

/// RFC 9162, 2.1.3.2.
async function checkInclusion(leaf, index, size, path, root) {
  need(index < size, "proof-path");
  let [at, last, hash] = [index, size - 1, leaf];
  // Division in place of shifts: an index may have more than 32 bits.
  const half = (number) => Math.floor(number / 2);
  for (const sibling of path) {
    need(last > 0, "proof-path");
    if (at % 2 === 1 || at === last) {
      hash = await nodeOf(sibling, hash);
      while (at % 2 === 0 && at !== 0) [at, last] = [half(at), half(last)];
    } else {
      hash = await nodeOf(hash, sibling);
    }
    [at, last] = [half(at), half(last)];
  }
  need(last === 0 && equal(hash, root), "proof-path");
}

/// A whole tree, from which the root at any size can be had.
class Tree {
  /// Of all leaf hashes, 32 bytes each, one behind the other.
  static async of(leaves) {
    const tree = new Tree();
    tree.size = leaves.length / 32;
    tree.levels = [leaves];
    tree.roots = new Map();
    for (let row = leaves; row.length >= 64; row = tree.levels.at(-1)) {
      const above = new Uint8Array(Math.floor(row.length / 64) * 32);
      for (let from = 0; from < above.length; from += Tree.BATCH_BYTES) {
        const places = [];
        for (let at = from; at < Math.min(from + Tree.BATCH_BYTES, above.length); at += 32) places.push(at);
        const hashes = await Promise.all(
          places.map((at) => nodeOf(row.subarray(at * 2, at * 2 + 32), row.subarray(at * 2 + 32, at * 2 + 64))),
        );
        hashes.forEach((hash, number) => above.set(hash, places[number]));
      }
      tree.levels.push(above);
    }
    return tree;
  }

  /// A complete subtree's hash; null beyond the tree.
  at(level, place) {
    const row = this.levels[level];
    return row && (place + 1) * 32 <= row.length ? row.subarray(place * 32, place * 32 + 32) : null;
  }

  /// The root over the first `size` entries; null beyond the tree.
  async rootAt(size) {
    if (size > this.size) return null;
    if (size === 0) return sha256(new Uint8Array());
    if (!this.roots.has(size)) this.roots.set(size, await this.rootOver(size));
    return this.roots.get(size);
  }

  async rootOver(size) {
    const subtrees = [];
    let done = 0;
    for (let level = this.levels.length - 1; level >= 0; level -= 1) {
      const width = 2 ** level;
      if (size - done >= width) {
        subtrees.push(this.at(level, done / width));
        done += width;
      }
    }
    let root = subtrees.pop();
    while (subtrees.length > 0) root = await nodeOf(subtrees.pop(), root);
    return root;
  }
}

Tree.BATCH_BYTES = 32 * 1024;

function isOrigin(text) {
  return text !== "" && utf8(text).length <= 255 && !/[\s\u0085+\p{Cc}]/u.test(text);
}

/// A note's text and signature lines; nothing is said yet of who signed.
function parseNote(note) {
  need(note !== null && utf8(note).length <= NOTE_BYTES_MAX, "checkpoint-malformed");
  need(!/[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/.test(note) && note.endsWith("\n"), "checkpoint-malformed");
  const blank = note.lastIndexOf("\n\n");
  need(blank >= 0, "checkpoint-malformed");
  const lines = note.slice(blank + 2, -1).split("\n");
  need(lines.length <= SIGNATURES_MAX, "checkpoint-malformed");
  const signatures = lines.map((line) => {
    const [, name, encoded] = /^\u2014 ([^ ]+) (.+)$/.exec(line) ?? [];
    const bytes = encoded && fromBase64(encoded);
    need(bytes && bytes.length > 4 && isOrigin(name), "checkpoint-malformed");
    return { name, id: bytes.subarray(0, 4), signature: bytes.subarray(4) };
  });
  return { text: note.slice(0, blank + 1), signatures };
}

async function noteKeyId(name, kind, key) {
  return (await sha256(concat(utf8(`${name}\n`), new Uint8Array([kind]), key))).subarray(0, 4);
}

/// The signatures that a key of this name made.
function linesOfKey(signatures, name, id) {
  return signatures.filter((line) => line.name === name && equal(line.id, id)).map((line) => line.signature);
}

/// Origin, size, root and what stands behind them.
function parseHead(text) {
  const [origin, size, root, ...rest] = text.split("\n");
  const head = { origin, size: decimal(size ?? ""), root: fromBase64(root ?? ""), extensions: rest.slice(0, -1) };
  const isHead = isOrigin(origin) && head.size !== null && head.root?.length === 32 && rest.at(-1) === "";
  need(isHead, "checkpoint-malformed");
  return head;
}

/// Opens a checkpoint with whichever of the register's keys may sign it.
async function openCheckpoint(note, register, { origin = null, extensions = false } = {}) {
  const { text, signatures } = parseNote(note);
  const head = parseHead(text);
  need(extensions || head.extensions.length === 0, "checkpoint-malformed");
  need(origin === null || head.origin === origin, "checkpoint-origin", head.origin);
  if (head.size === 0) need(equal(head.root, await sha256(new Uint8Array())), "checkpoint-malformed");
  let fault = new Refused("checkpoint-key", head.origin);
  for (const key of register.keys.values()) {
    if (key.use !== "ledger" || key.key.alg !== "EdDSA") continue;
    if (!key.origins.some((range) => range.origin === head.origin)) continue;
    const id = await noteKeyId(head.origin, NOTE_ED25519, key.key.bytes);
    const lines = linesOfKey(signatures, head.origin, id);
    need(lines.length <= 1, "checkpoint-malformed");
    if (lines.length === 0) continue;
    if (!(await key.key.verify(utf8(text), lines[0]))) {
      fault = new Refused("checkpoint-signature", key.kid);
    } else if (covers(key, head.origin, Math.max(head.size - 1, 0))) {
      return { ...head, text, signatures, kid: key.kid };
    } else {
      fault = new Refused("checkpoint-range", key.kid);
    }
  }
  throw fault;
}

/// Reads a c2sp.org/tlog-proof@v1.
function parseProof(text) {
  const cut = text === null ? -1 : text.indexOf("\n\n");
  need(cut >= 0, "proof-malformed");
  const [mark, place, ...path] = text.slice(0, cut).split("\n");
  const index = decimal(/^index (.+)$/.exec(place ?? "")?.[1] ?? "");
  const hashes = path.map(fromBase64);
  const isProof = mark === "c2sp.org/tlog-proof@v1" && index !== null && hashes.length <= PATH_HASHES_MAX;
  need(isProof && hashes.every((hash) => hash?.length === 32), "proof-malformed");
  return { index, path: hashes, checkpoint: text.slice(cut + 2) };
}

/// Cuts a file of signed notes, with or without a blank line between.
function splitNotes(text) {
  const notes = [];
  let [note, signed] = ["", false];
  for (const line of text.match(/[^\n]*\n|[^\n]+$/g) ?? []) {
    const isSignature = line.startsWith(SIGNATURE_MARK);
    if (signed && !isSignature) {
      notes.push(note);
      [note, signed] = ["", false];
      if (line === "\n") continue;
    }
    note += line;
    signed ||= isSignature;
  }
  if (note !== "") notes.push(note);
  return notes;
}

/// Reads a c2sp.org/tlog-policy. Rules for names: defined before they are used, used once at most.
async function parsePolicy(bytes) {
  const text = textOf(bytes);
  const isText = text !== null && text.endsWith("\n") && !/[\u0000-\u0008\u000b-\u001f\u007f]/.test(text);
  need(isText && bytes.length <= NOTE_BYTES_MAX, "policy-malformed");
  const policy = { logs: [], witnesses: new Map(), groups: new Map(), quorum: null };
  const [taken, keys] = [new Set(), new Set()];
  const isNew = (name) => name && name !== "none" && !policy.witnesses.has(name) && !policy.groups.has(name);
  const use = (name) => {
    const isKnown = policy.witnesses.has(name) || policy.groups.has(name);
    need(isKnown && !taken.has(name), "policy-malformed", name);
    taken.add(name);
    return name;
  };
  const unique = (role, key) => {
    need(!keys.has(`${role} ${hex(key)}`), "policy-malformed");
    keys.add(`${role} ${hex(key)}`);
  };
  for (const line of text.split("\n")) {
    const [word, name, ...rest] = line.replace(/^[ \t]+|[ \t]+$/g, "").split(/[ \t]+/);
    if (word === "" || word.startsWith("#")) continue;
    need(policy.witnesses.size + policy.groups.size < POLICY_NAMES_MAX, "policy-malformed");
    if (word === "log" && name && rest.length <= 1) {
      policy.logs.push(await parseVkey(name, NOTE_ED25519));
      unique(word, policy.logs.at(-1).key.bytes);
    } else if (word === "witness" && isNew(name) && (rest.length === 1 || rest.length === 2)) {
      const vkey = await parseVkey(rest[0], NOTE_COSIGNATURE);
      unique(word, vkey.key.bytes);
      policy.witnesses.set(name, vkey);
    } else if (word === "group" && isNew(name) && rest.length >= 2) {
      const members = rest.slice(1).map(use);
      const bound = { any: 1, all: members.length }[rest[0]] ?? decimal(rest[0]);
      need(bound >= 1 && bound <= members.length, "policy-malformed", name);
      policy.groups.set(name, { bound, members });
    } else if (word === "quorum" && policy.quorum === null && rest.length === 0) {
      policy.quorum = name === "none" ? name : use(name);
    } else {
      throw new Refused("policy-malformed", line);
    }
  }
  need(policy.quorum !== null, "policy-malformed");
  return policy;
}

/// `<name>+<key id>+<base64 of kind and key>` (c2sp.org/signed-note).
async function parseVkey(text, kind) {
  const [, name, id, encoded] = /^([^+]+)\+([0-9a-f]{8})\+(.+)$/.exec(text) ?? [];
  const bytes = encoded && fromBase64(encoded);
  need(bytes?.length === 33 && bytes[0] === kind && isOrigin(name), "policy-malformed", text);
  const key = new PublicKey("EdDSA", bytes.subarray(1));
  const keyId = await noteKeyId(name, kind, key.bytes);
  need(hex(keyId) === id, "policy-malformed", text);
  return { name, key, id: keyId };
}

/// Which of a policy's witnesses cosigned a checkpoint, and when (c2sp.org/tlog-cosignature); of several
/// lines of one the earliest counts. A line of a known witness that does not verify is a forgery.
async function cosignaturesOf(checkpoint, policy) {
  const times = new Map();
  for (const [name, witness] of policy.witnesses) {
    for (const line of linesOfKey(checkpoint.signatures, witness.name, witness.id)) {
      need(line.length === 72, "cosignature", witness.name);
      const time = new DataView(line.buffer, line.byteOffset).getBigUint64(0);
      const message = utf8(`cosignature/v1\ntime ${time}\n${checkpoint.text}`);
      const holds = await witness.key.verify(message, line.subarray(8));
      need(holds && time <= Number.MAX_SAFE_INTEGER / 1000, "cosignature", witness.name);
      times.set(name, Math.min(times.get(name) ?? Infinity, Number(time) * 1000));
    }
  }
  return times;
}

/// A policy that names ledgers speaks of no others.
function namesLedger(policy, origin, register) {
  const keys = [...register.keys.values()].filter((key) => key.use === "ledger");
  const isIts = (log) => log.name === origin && keys.some((key) => equal(key.key.bytes, log.key.bytes));
  return policy.logs.length === 0 || policy.logs.some(isIts);
}

/// When the policy's quorum had seen the checkpoint: the earliest instant by which enough of its
/// members had, 0 for a quorum of none; null when it has not.
function quorumTime(policy, times, name = policy.quorum) {
  if (name === "none") return 0;
  const group = policy.groups.get(name);
  if (!group) return times.get(name) ?? null;
  const members = group.members.map((member) => quorumTime(policy, times, member)).filter((time) => time !== null);
  members.sort((a, b) => a - b);
  return members[group.bound - 1] ?? null;
}
