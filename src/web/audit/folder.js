// An exported folder: every receipt, the whole tree, kept checkpoints, tiles, erasures, shards.

const ENTRIES_MAX = 1_000_000;
const SMALL_FILE_BYTES_MAX = 64 * 1024 * 1024;
const READ_BYTES = 1024 * 1024;
const BATCH_LINES = 256;
const FINDINGS_PER_RULE_MAX = 20;
const TILE_HASHES = 256;
const TILE_LEVEL_HEIGHT = 8;
const SKEW_MS = 5_000;
const LEDGER_FILE = /(^|\/)(receipts\.jws|checkpoints?)$/;

/// What is wrong, each rule up to its bound, and what could not be looked at.
class Findings {
  constructor() {
    this.list = [];
    this.counts = new Map();
    this.notices = new Map();
  }

  add(rule, { origin = null, index = null, detail = "" } = {}) {
    const count = (this.counts.get(rule) ?? 0) + 1;
    this.counts.set(rule, count);
    if (count <= FINDINGS_PER_RULE_MAX) this.list.push({ rule, origin, index, detail });
  }

  notice(rule, detail = "") {
    this.notices.set(rule, detail);
  }

  /// Runs what may refuse; undefined when it does.
  async run(place, step) {
    try {
      return await step();
    } catch (fault) {
      if (!(fault instanceof Refused)) throw fault;
      this.add(fault.rule, { ...place, detail: fault.detail });
      return undefined;
    }
  }
}

/// The files of a folder by their paths below the folder that has `keys.json`.
class Folder {
  constructor(entries) {
    const registers = entries.filter((entry) => /(^|\/)keys\.json$/.test(entry.path));
    need(registers.length > 0, "folder-register");
    need(registers.length === 1, "folder-mixed", registers[1]?.path);
    const base = registers[0].path.slice(0, -"keys.json".length);
    const stray = entries.find(({ path }) => !path.startsWith(base) && LEDGER_FILE.test(path));
    need(!stray, "folder-mixed", stray?.path);
    const below = entries.filter((entry) => entry.path.startsWith(base));
    this.files = new Map(below.map((entry) => [entry.path.slice(base.length), entry.file]));
  }

  /// A small file's bytes; null without it.
  async bytes(path, bytesMax = SMALL_FILE_BYTES_MAX) {
    const file = this.files.get(path);
    if (!file) return null;
    need(file.size <= bytesMax, "too-large", path);
    return new Uint8Array(await file.arrayBuffer());
  }

  async text(path, bytesMax) {
    const bytes = await this.bytes(path, bytesMax);
    return bytes && textOf(bytes);
  }

  /// The folders of the ledgers in it: "" where one stands at the top, else `<origin>/`.
  ledgers() {
    const paths = [...this.files.keys()].filter((path) => LEDGER_FILE.test(path));
    const dirs = [...new Set(paths.map((path) => path.slice(0, path.lastIndexOf("/") + 1)))].sort();
    need(dirs.length < 2 || dirs[0] !== "", "folder-mixed", dirs[1]);
    for (const dir of dirs) need(this.files.has(`${dir}receipts.jws`), "folder-file", `${dir}receipts.jws`);
    return dirs;
  }
}

/// The lines of a file with their places. Of one that is too long for a receipt only the beginning is
/// kept, so that it is refused.
async function* linesOf(file, progress) {
  let held = new Uint8Array();
  let [from, length] = [0, 0];
  for (let at = 0; at < file.size; at += READ_BYTES) {
    const piece = new Uint8Array(await file.slice(at, at + READ_BYTES).arrayBuffer());
    let begin = 0;
    for (let end = piece.indexOf(10); end >= 0; end = piece.indexOf(10, begin)) {
      const part = piece.subarray(begin, end);
      yield { bytes: concat(held, part), from, length: length + part.length };
      begin = end + 1;
      [held, from, length] = [new Uint8Array(), at + begin, 0];
    }
    const rest = piece.subarray(begin);
    length += rest.length;
    held = concat(held, rest.subarray(0, JWS_BYTES_MAX + 1 - held.length));
    progress(at + piece.length);
  }
  if (length > 0) yield { bytes: held, from, length };
}

/// What one line is, seen alone.
async function examine({ bytes, from, length }, register) {
  const hash = await sha256(bytes);
  const seen = { leaf: await leafOf(concat(utf8(ENTRY_CONTEXT), hash)), from, length, receipt: null, fault: null };
  try {
    need(length <= JWS_BYTES_MAX, "receipt-malformed");
    seen.receipt = parseReceipt(textOf(bytes) ?? "");
    await verifyReceipt(seen.receipt, register);
  } catch (fault) {
    if (!(fault instanceof Refused)) throw fault;
    seen.fault = fault;
  }
  return seen;
}

/// The walk over one ledger's receipts, in the order of the file.
class Walk {
  constructor(origin, erased, findings) {
    Object.assign(this, { origin, erased, findings });
    // Where the next line should stand, and whether indices had no gap so far.
    [this.expected, this.intact, this.nextErased] = [0, true, 0];
    [this.leaves, this.rids, this.places, this.times] = [[], [], new Map(), []];
    [this.kinds, this.listed, this.priors, this.refers] = [new Map(), new Map(), new Map(), []];
    [this.seen, this.opened, this.highest, this.witnessed] = [new Set(), null, -Infinity, new Map()];
  }

  add(rule, index, detail = "") {
    this.findings.add(rule, { origin: this.origin, index, detail });
  }

  place({ leaf, from, length, receipt, fault }) {
    this.skipErased();
    const index = receipt?.body.log.index ?? this.expected;
    if (fault) this.add(fault.rule, index, fault.detail);
    if (index > this.expected) this.add("gap", this.expected, `${this.expected}–${index - 1}`);
    if (index < this.expected) this.add("order", index);
    this.intact &&= index === this.expected;
    this.expected = Math.max(this.expected, index + 1);
    if (receipt) this.claim(receipt, index);
    this.places.set(index, { from, length });
    this.push(leaf, receipt?.body.rid ?? null, receipt?.time ?? null);
  }

  push(leaf, rid, time) {
    this.leaves.push(leaf);
    this.rids.push(rid);
    this.times.push(time);
    need(this.leaves.length <= ENTRIES_MAX, "too-large", "receipts.jws");
  }

  skipErased() {
    while (this.erased[this.nextErased]?.index === this.expected) {
      this.push(this.erased[this.nextErased].leaf, null, null);
      this.expected += 1;
      this.nextErased += 1;
    }
  }

  claim({ body, time }, index) {
    this.kinds.set(body.kind, (this.kinds.get(body.kind) ?? 0) + 1);
    if (body.log.origin !== this.origin) this.add("origin", index, body.log.origin);
    if (this.seen.has(body.rid)) this.add("rid", index, body.rid);
    this.seen.add(body.rid);
    if (time < this.highest - SKEW_MS) this.add("time", index, body.time);
    this.highest = Math.max(this.highest, time);
    // Ranges of another ledger say nothing of this one's bodies, and none speaks of later entries.
    const isOwn = ({ last, origin }) => (origin ?? body.log.origin) === body.log.origin && last < index;
    if (body.bodies) this.listed.set(index, body.bodies.filter(isOwn));
    const { witnessed } = body.log;
    const head = witnessed && `${witnessed.size} ${instantOf(witnessed.time)}`;
    if (head && !this.witnessed.has(head)) this.witnessed.set(head, index);
    const { refers } = body;
    const isElsewhere = refers?.origin !== undefined && refers.origin !== this.origin;
    if (refers && (this.intact || isElsewhere)) this.refers.push({ index, refers });
    if (index === 0) this.opened = body;
    // Behind a gap no root can be right; the gap itself is the finding.
    if (!this.intact) return;
    const prior = `${body.log.prior_size} ${body.log.prior_root}`;
    if (!this.priors.has(prior)) this.priors.set(prior, index);
  }

  /// Ends the walk: what is erased behind the last line, and whether an entry says that it might be.
  async finish() {
    this.skipErased();
    if (this.nextErased < this.erased.length) this.add("erasure", this.erased[this.nextErased].index);
    for (const { index, erasure } of this.erased) {
      const ranges = this.listed.get(erasure) ?? [];
      const isSaid = ranges.some((range) => range.first <= index && index <= range.last);
      if (!isSaid) this.add("erasure", index);
    }
    const leaves = new Uint8Array(this.leaves.length * 32);
    this.leaves.forEach((leaf, number) => leaves.set(leaf, number * 32));
    this.leaves = null;
    this.tree = await Tree.of(leaves);
    for (const [prior, index] of this.priors) {
      const [size, root] = prior.split(" ");
      const ours = await this.tree.rootAt(Number(size));
      if (!ours || toBase64(ours) !== root) this.add("prior-head", index, size);
    }
  }
}

const ERASURES = { erased: [{ index: isCount, erasure: isCount, leaf: isText }] };

/// The list of erased bodies, by rising index.
async function erasedBodies(folder, dir) {
  const bytes = await folder.bytes(`${dir}erasures.json`);
  need(bytes, "folder-file", `${dir}erasures.json`);
  let list = null;
  try {
    list = StrictJson.parse(bytes);
  } catch {
    throw new Refused("erasures");
  }
  need(fits(list, ERASURES), "erasures");
  const bodies = list.erased.map((body) => ({ ...body, leaf: fromBase64(body.leaf) }));
  const rises = bodies.every((body, place) => place === 0 || bodies[place - 1].index < body.index);
  need(rises && bodies.every((body) => body.leaf?.length === 32), "erasures");
  return bodies;
}

/// Verifies one ledger of a folder.
async function verifyLedger(folder, dir, register, policy, closed, findings, progress) {
  const place = { origin: dir.slice(0, -1) || null };
  const note = await folder.text(`${dir}checkpoint`, NOTE_BYTES_MAX);
  const origin = dir.slice(0, -1) || (note ?? "").split("\n", 1)[0];
  place.origin = origin;
  const head = await findings.run(place, async () => {
    need(note !== null, "folder-file", `${dir}checkpoint`);
    return openCheckpoint(note, register, { origin });
  });
  const erased = (await findings.run(place, () => erasedBodies(folder, dir))) ?? [];
  const walk = new Walk(origin, erased, findings);
  const file = folder.files.get(`${dir}receipts.jws`);
  let batch = [];
  const drain = async () => {
    for (const seen of await Promise.all(batch.map((line) => examine(line, register)))) walk.place(seen);
    batch = [];
  };
  for await (const line of linesOf(file, progress)) {
    if (batch.push(line) === BATCH_LINES) await drain();
  }
  await drain();
  await walk.finish();
  if (head) await checkHead(head, walk);
  const isClosed = closed?.some((shard) => shard.origin === origin) ?? false;
  const kept = await findings.run(place, () => checkKept(folder, dir, register, head, walk, policy, isClosed));
  await findings.run(place, () => checkTiles(folder, dir, walk));
  await checkAuditRecords(folder, dir, walk, file);
  const times = walk.times.filter((time) => time !== null);
  return {
    dir,
    origin,
    file,
    walk,
    head: head ?? null,
    entries: walk.tree.size,
    root: toBase64(await walk.tree.rootAt(walk.tree.size)),
    kinds: [...walk.kinds].sort(),
    erased: erased.length,
    checkpoints: kept?.count ?? 0,
    witnessedSize: kept?.witnessedSize ?? 0,
    first: times[0] ?? null,
    last: times.at(-1) ?? null,
  };
}

async function checkHead(head, walk) {
  const size = walk.tree.size;
  if (size < head.size) walk.add("truncated", size, `${head.size}`);
  if (size > head.size) walk.add("uncovered", head.size);
  const root = await walk.tree.rootAt(head.size);
  if (size >= head.size && !equal(root, head.root)) walk.add("root", null);
}

/// Every kept checkpoint is of this history; which of them enough witnesses cosigned.
async function checkKept(folder, dir, register, head, walk, policy, isClosed) {
  const text = await folder.text(`${dir}checkpoints`);
  need(text !== null, "folder-file", `${dir}checkpoints`);
  const latest = await folder.text(`${dir}checkpoint`, NOTE_BYTES_MAX);
  const notes = splitNotes(text);
  const [cosigned, seen] = [[], new Set()];
  for (const [number, note] of [...notes, latest ?? ""].entries()) {
    if (note === "" || (number === notes.length && !head)) continue;
    const place = { origin: walk.origin };
    await walk.findings.run(place, async () => {
      const kept = await openCheckpoint(note, register, { origin: walk.origin });
      const ours = await walk.tree.rootAt(kept.size);
      if (!ours || (head && kept.size > head.size)) walk.add("truncated", walk.tree.size, `${kept.size}`);
      else if (number < notes.length && !equal(ours, kept.root)) walk.add("fork", null, `${kept.size}`);
      if (!policy || policy.quorum === "none") return;
      const times = await cosignaturesOf(kept, policy);
      for (const time of times.values()) seen.add(`${kept.size} ${time}`);
      const time = quorumTime(policy, times);
      if (time !== null && ours && equal(ours, kept.root)) cosigned.push({ size: kept.size, time });
    });
  }
  checkTimes(cosigned, walk);
  if (policy && !namesLedger(policy, walk.origin, register)) walk.add("policy-ledger", null, walk.origin);
  const witnessedSize = cosigned.reduce((most, { size }) => Math.max(most, size), 0);
  const asks = policy && policy.quorum !== "none" && walk.tree.size > 0;
  // Nothing will cover the end of a closed ledger later.
  const lacksEnd = isClosed && witnessedSize < walk.tree.size;
  if (asks && cosigned.length === 0) walk.add("quorum", null, walk.origin);
  else if (asks && lacksEnd) walk.add("quorum", witnessedSize, walk.origin);
  if (asks) checkWitnessed(walk, seen);
  return { count: notes.length, witnessedSize };
}

/// A witnessed head that a receipt names is one that a witness cosigned at that instant.
function checkWitnessed(walk, seen) {
  for (const [head, index] of walk.witnessed) {
    const size = Number(head.split(" ")[0]);
    if (!seen.has(head) || size > index) walk.add("witnessed-head", index, `${size}`);
  }
}

/// Nothing is dated before an instant at which witnesses saw the ledger without it, or after one at which
/// they saw it.
function checkTimes(cosigned, walk) {
  const bySize = [...cosigned].sort((a, b) => a.size - b.size);
  // The earliest instant of all later sizes: whoever saw eight entries saw the fifth.
  const until = new Array(bySize.length + 1).fill(Infinity);
  for (let place = bySize.length - 1; place >= 0; place -= 1) until[place] = Math.min(bySize[place].time, until[place + 1]);
  let [from, passed] = [-Infinity, 0];
  walk.times.forEach((time, index) => {
    for (; passed < bySize.length && bySize[passed].size <= index; passed += 1) from = Math.max(from, bySize[passed].time);
    if (time === null) return;
    if (time < from - SKEW_MS) walk.add("back-dated", index, new Date(time).toISOString());
    if (time > until[passed] + SKEW_MS) walk.add("post-dated", index, new Date(time).toISOString());
  });
}

/// The path of a tile: groups of three digits, all but the last behind an `x`.
function tileNumber(path) {
  const found = /^((?:x\d{3}\/)*\d{3})(?:\.p\/(\d{1,3}))?$/.exec(path);
  if (!found) return null;
  return { number: Number(found[1].replace(/[x/]/g, "")), width: found[2] ? Number(found[2]) : TILE_HASHES };
}

/// Every tile that is there says what the receipts say.
async function checkTiles(folder, dir, walk) {
  const prefix = `${dir}tile/`;
  for (const path of folder.files.keys()) {
    if (!path.startsWith(prefix)) continue;
    const [level, ...rest] = path.slice(prefix.length).split("/");
    const tile = tileNumber(rest.join("/"));
    const bytes = await folder.bytes(path, TILE_HASHES * 64);
    const expected = tile && (level === "entries" ? null : hashesOf(walk.tree, Number(level), tile));
    const isRight = level === "entries" ? tile && (await entriesAgree(bytes, tile, walk.tree)) : expected && equal(bytes, expected);
    if (!isRight) walk.add("tile", null, path);
  }
}

function hashesOf(tree, level, { number, width }) {
  const hashes = [];
  for (let place = number * TILE_HASHES; place < number * TILE_HASHES + width; place += 1) {
    const hash = tree.at(level * TILE_LEVEL_HEIGHT, place);
    if (!hash) return null;
    hashes.push(hash);
  }
  return concat(...hashes);
}

/// Entries stand behind their lengths, two big-endian bytes each.
async function entriesAgree(bytes, { number, width }, tree) {
  let at = 0;
  for (let place = number * TILE_HASHES; place < number * TILE_HASHES + width; place += 1) {
    if (at + 2 > bytes.length) return false;
    const length = bytes[at] * 256 + bytes[at + 1];
    const leaf = await leafOf(bytes.subarray(at + 2, at + 2 + length));
    const ours = tree.at(0, place);
    if (at + 2 + length > bytes.length || !ours || !equal(leaf, ours)) return false;
    at += 2 + length;
  }
  return at === bytes.length;
}

/// Every audit record that is there is the one that its receipt commits to.
async function checkAuditRecords(folder, dir, walk, file) {
  for (const path of folder.files.keys()) {
    const index = path.startsWith(`${dir}audit/`) ? decimal(path.slice(dir.length + "audit/".length)) : null;
    if (index === null) continue;
    const record = await folder.bytes(path);
    const receipt = await receiptAt(walk, file, index);
    const isIts = receipt && toBase64url(await sha256(record)) === receipt.body.audit;
    if (!isIts) walk.add("audit-record", index);
  }
}

/// The receipt at an index, read anew; null where there is none that can be read.
async function receiptAt(walk, file, index) {
  const place = walk.places.get(index);
  if (!place || place.length > JWS_BYTES_MAX) return null;
  const bytes = new Uint8Array(await file.slice(place.from, place.from + place.length).arrayBuffer());
  try {
    return parseReceipt(textOf(bytes) ?? "");
  } catch (fault) {
    if (fault instanceof Refused) return null;
    throw fault;
  }
}

/// Earlier receipts that are referred to are what they are called; in a later shard by their origin.
function checkRefers(closed, ledgers) {
  const [order] = inOrder(closed, ledgers);
  for (const [place, { walk }] of order.entries()) {
    for (const { index, refers } of walk.refers) {
      const origin = refers.origin ?? walk.origin;
      const isHere = origin === walk.origin;
      const other = isHere ? order[place] : order.slice(0, place).find((ledger) => ledger.origin === origin);
      const rid = isHere && refers.index >= index ? undefined : other?.walk.rids[refers.index];
      // An erased or unreadable body has no id to compare.
      if (rid !== null && rid !== refers.rid) walk.add("refers", index, `${refers.index}`);
    }
  }
}

/// The ledgers as they follow each other, the closed ones first, and those that are open.
function inOrder(closed, ledgers) {
  const open = ledgers.filter(({ origin }) => !closed?.some((shard) => shard.origin === origin));
  const order = (closed ?? []).map(({ origin }) => ledgers.find((ledger) => ledger.origin === origin)).filter(Boolean);
  return [[...order, ...open], open];
}

/// Reads the log of logs: the closed ledgers in the order of their closing; null without one.
async function readShards(folder, register) {
  const note = await folder.text("log-of-logs");
  if (note === null) return null;
  const log = await openCheckpoint(note, register, { extensions: true });
  const shards = log.extensions.map((line) => {
    const [, origin, size, root] = /^([^ ]+) (\d+) (\S+)$/.exec(line) ?? [];
    need(origin && decimal(size) !== null && fromBase64(root)?.length === 32, "log-of-logs");
    return { origin, size: decimal(size), root };
  });
  const leaves = await Promise.all(shards.map((shard) => leafOf(shardEntry(shard))));
  const tree = await Tree.of(concat(...leaves));
  const isWhole = log.origin.endsWith("/log-of-logs") && log.size === shards.length;
  need(isWhole && equal(await tree.rootAt(shards.length), log.root), "log-of-logs");
  return shards;
}

function shardEntry({ origin, size, root }) {
  return utf8(`tulga-shard-v1\n${origin}\n${size}\n${root}\n`);
}

/// Every closed ledger is there as it was closed, one is open, and each names the one before it.
async function checkShards(closed, ledgers, findings) {
  const add = (rule, origin, detail = "") => findings.add(rule, { origin, detail });
  for (const shard of closed ?? []) {
    const ledger = ledgers.find(({ origin }) => origin === shard.origin);
    const isAsClosed = ledger?.entries === shard.size && ledger.root === shard.root;
    if (!ledger) add("shard-missing", shard.origin, shard.origin);
    else if (!isAsClosed) add("shard-closed", shard.origin, shard.origin);
  }
  const [order, open] = inOrder(closed, ledgers);
  if (open.length === 0) add("shard-missing", null);
  for (const { origin } of open.slice(1)) add("log-of-logs", origin, origin);
  let before = null;
  for (const ledger of order) {
    const { opened } = ledger.walk;
    const [act, subject] = [opened?.act, opened?.subject];
    const digest = before && `sha-256:${hex(await sha256(shardEntry({ ...before, size: before.entries })))}`;
    const follows = before
      ? act === "ledger_opened" && subject === before.origin && opened.details === digest
      : act !== "ledger_opened" || subject === undefined;
    if (!follows) add("shard-link", ledger.origin, ledger.origin);
    before = ledger;
  }
}

/// Verifies a folder: `entries` are `{path, file}`; `given` is a policy's bytes from elsewhere, or null.
async function verifyFolder(entries, trust, given, progress) {
  const findings = new Findings();
  const folder = new Folder(entries);
  const register = parseRegister(await folder.bytes("keys.json", REGISTER_BYTES_MAX));
  await findings.run({}, async () => {
    need(trust !== null, "trust-missing");
    await trustRegister(register, await folder.text("keys.json.sig", NOTE_BYTES_MAX), trust);
  });
  const policyBytes = given ?? (await folder.bytes("policy", NOTE_BYTES_MAX));
  const policy = policyBytes && (await findings.run({}, () => parsePolicy(policyBytes)));
  if (policy && !given) findings.notice("policy-inside");
  if ([...folder.files.keys()].some((path) => /(^|\/)tsa\/.+\.tsr$/.test(path))) findings.notice("tsa");
  const closed = await findings.run({}, () => readShards(folder, register));
  const dirs = folder.ledgers();
  const total = dirs.reduce((sum, dir) => sum + folder.files.get(`${dir}receipts.jws`).size, 0);
  let before = 0;
  const ledgers = [];
  for (const dir of dirs) {
    const report = (done) => progress(before + done, total);
    ledgers.push(await verifyLedger(folder, dir, register, policy, closed, findings, report));
    before += ledgers.at(-1).file.size;
  }
  checkRefers(closed, ledgers);
  await checkShards(closed, ledgers, findings);
  return folderReport(findings, ledgers, Boolean(given));
}

/// Rules after which receipts cannot be called signed.
const SIGNATURE_RULES = [
  "trust-missing", "register-untrusted", "register-signature", "receipt-malformed", "receipt-header",
  "receipt-kind", "key-unknown", "key-use", "key-alg", "signature", "key-range", "key-time",
];

/// Rules that say nothing against what the ledger's own keys vouch for.
const WITNESS_RULES = ["policy-malformed", "policy-ledger", "quorum", "cosignature", "witnessed-head"];

/// Witnessed is only what a policy from elsewhere says: the one in the folder is the bank's own word.
function folderReport(findings, ledgers, hasOwnPolicy) {
  const signed = !SIGNATURE_RULES.some((rule) => findings.counts.has(rule));
  const logged = [...findings.counts.keys()].every((rule) => WITNESS_RULES.includes(rule));
  const isWitnessed = ({ witnessedSize, entries }) => witnessedSize > 0 || entries === 0;
  const witnessed = hasOwnPolicy && findings.counts.size === 0 && ledgers.every(isWitnessed);
  return {
    kind: "folder",
    findings: findings.list,
    counts: findings.counts,
    notices: [...findings.notices.keys()],
    levels: { signed, logged, witnessed },
    ledgers,
    entries: ledgers.reduce((sum, ledger) => sum + ledger.entries, 0),
  };
}
