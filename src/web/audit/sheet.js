// A receipt in plain words.

function receiptCard(receipt, isSigned, checkpoint) {
  const { body } = receipt;
  const heading = isSigned ? say("said") : say("claimed");
  const payload = element("details", {}, element("summary", {}, say("payload")), element("pre", { class: "mono" }, signedText(receipt)));
  return element(
    "section",
    { class: "card", id: "receipt", "data-kind": body.kind },
    element("p", { class: "quiet small" }, heading),
    element("p", { class: "summary" }, ...summaryOf(body)),
    list([[say("time"), date(body.time)], ...contentRows(body), ...commonRows(receipt, checkpoint)]),
    payload,
  );
}

/// The one line above all others: what happened.
function summaryOf(body) {
  switch (body.kind) {
    case "verification":
    case "exception":
      return [`${word("op", body.txn.op)}, ${money(approvedMinor(body), body.txn.currency)}: `, word("outcome", body.outcome)];
    case "outcome":
      return [`${word("cash", body.outcome)}: ${money(body.dispensed_minor, body.currency)}`];
    case "administration":
      return [word("act", body.act)];
    case "reversal":
      return [`${word("kind", body.kind)}: ${money(body.moved_minor, body.currency)}`];
    default:
      return [word("kind", body.kind)];
  }
}

function approvedMinor(body) {
  return body.outcome === "APPROVED_CAPPED" && body.cap ? body.cap.amount_minor : body.txn.amount_minor;
}

function contentRows(body) {
  switch (body.kind) {
    case "verification":
    case "exception":
      return decisionRows(body);
    case "outcome":
      return [
        [say("moved"), money(body.dispensed_minor, body.currency)],
        [say("terminal"), told(body.terminal.id)],
        [say("refers"), refersWords(body.refers)],
        [say("footage"), body.footage === undefined ? null : say("committed")],
      ];
    case "administration":
      return [
        [say("actor"), actorWords(body.actor)],
        [say("subject"), body.subject === undefined ? null : told(body.subject)],
      ];
    case "erasure":
      return [
        [say("cause"), word("cause", body.reason)],
        [say("actor"), actorWords(body.actor)],
        [say("subject"), body.subject === undefined ? null : told(body.subject)],
        [say("bodies"), rangesWords(body.bodies)],
        [say("clips"), rangesWords(body.footage)],
        [say("captures"), rangesWords(body.evidence)],
      ];
    case "reversal":
      return [
        [say("moved"), money(body.moved_minor, body.currency)],
        [say("refers"), refersWords(body.refers)],
        [say("actor"), actorWords(body.actor)],
      ];
    default:
      return [
        [say("refers"), refersWords(body.refers)],
        [say("actor"), actorWords(body.actor)],
      ];
  }
}

function decisionRows(body) {
  const { txn, cap, bio, policy, confirmation } = body;
  const modality = bio && bio.modality.split("+").map((part) => word("modality", part)).join(" + ");
  return [
    [say("operation"), word("op", txn.op)],
    [say("asked"), money(txn.amount_minor, txn.currency)],
    [say("decision"), word("outcome", body.outcome)],
    [say("cap"), cap ? say("capped", money(cap.amount_minor, txn.currency), date(cap.until)) : null],
    [say("reasons"), body.reasons.length > 0 ? element("ul", {}, body.reasons.map(reasonWords)) : null],
    [say("terminal"), told(body.terminal.id)],
    [say("compared"), bio ? say("comparedWith", modality, printable(bio.required_db)) : say("nothingCompared")],
    [say("customer"), body.subject === undefined ? null : mono(body.subject)],
    [say("guest"), body.guest === undefined ? null : word("guest", body.guest)],
    [say("rules"), say("rulesWords", printable(policy.id), printable(policy.version))],
    [say("refers"), body.refers ? refersWords(body.refers) : null],
    [say("confirmation"), confirmation ? say("confirmationWords", word("by", confirmation.by), date(confirmation.at)) : null],
    [say("footage"), body.footage === undefined ? null : say("committed")],
  ];
}

/// A coded reason, in the words that the customer read.
function reasonWords(code) {
  const words = Object.hasOwn(REASONS, code) ? [fill(REASONS[code]), " "] : [];
  return element("li", {}, ...words, mono(code));
}

function refersWords({ rid, index }) {
  return say("refersWords", digits(index), printable(rid));
}

function actorWords({ role, name }) {
  return `${word("role", role)}: ${printable(name)}`;
}

function rangesWords(ranges) {
  if (!ranges || ranges.length === 0) return null;
  const place = (origin) => (origin === undefined ? "" : ` (${printable(origin)})`);
  const span = ({ first, last }) => (first === last ? digits(first) : `${digits(first)}–${digits(last)}`);
  return ranges.map((range) => span(range) + place(range.origin)).join(", ");
}

function commonRows({ body, kid }, checkpoint) {
  const { log } = body;
  const seen = checkpoint?.times.map(([name, time]) => element("li", {}, told(name), ` — ${date(time)}`));
  return [
    [say("validUntil"), body.valid_until === undefined ? null : date(body.valid_until)],
    [say("audience"), body.aud === undefined ? null : told(body.aud)],
    [say("tenant"), told(body.tenant)],
    [say("issuer"), told(body.iss)],
    [say("place"), say("placeWords", digits(log.index), printable(log.origin))],
    [say("before"), element("span", { class: "mono" }, say("beforeWords", digits(log.prior_size), printable(log.prior_root)))],
    [say("covered"), checkpoint ? say("coveredWords", digits(checkpoint.size)) : null],
    [say("witnesses"), seen?.length > 0 ? element("ul", {}, seen) : null],
    [say("number"), mono(body.rid)],
    [say("key"), mono(kid)],
  ];
}

/// The payload, letter by letter as it was signed.
function signedText({ jws }) {
  return printable(textOf(fromBase64url(jws.split(".")[1])));
}

// --- start ----------------------------------------------------------------------------------------

async function start() {
  drawLanguages();
  draw();
  const lacking = await missingCrypto();
  if (lacking) {
    const key = lacking === "subtle" ? "lackSubtle" : "lackEd25519";
    at("lacking").replaceChildren(element("p", { "data-text": key }));
    at("lacking").hidden = false;
    at("main").dataset.lacking = lacking;
    draw();
  }
  const entriesOf = (input) => [...input.files].slice(0, FILES_MAX).map((file) => ({ path: file.webkitRelativePath || file.name, file }));
  for (const id of ["choose-files", "choose-folder"]) {
    at(id).addEventListener("change", async () => {
      const entries = entriesOf(at(id));
      at(id).value = "";
      await take(entries);
    });
  }
  at("trust").addEventListener("input", check);
  at("clear").addEventListener("click", clear);
  const drop = document.body;
  drop.addEventListener("dragover", (event) => {
    event.preventDefault();
    at("drop").classList.add("over");
  });
  drop.addEventListener("dragleave", () => at("drop").classList.remove("over"));
  drop.addEventListener("drop", async (event) => {
    event.preventDefault();
    at("drop").classList.remove("over");
    await dropped(event.dataTransfer);
  });
}

start();
