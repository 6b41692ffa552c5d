#!/usr/bin/env python3
"""Shows the auditor's page good and tampered files in a real browser.

    page_browser.py PAGE CASES [PICTURES]

CASES is a list of {name, folder, dir, trust, policy, verdict, rule, levels}. Every case is shown in one of the
three languages in turn. Where a folder PICTURES is given, some are pictured in all of them, on a desktop and on a
telephone, in light and in dark.
Needs Debian's Chromium and the package `playwright`.
"""
import json
import pathlib
import shutil
import sys

from playwright.sync_api import sync_playwright

LANGUAGES = ("kk", "ru", "en")
DESKTOP, PHONE = {"width": 1180, "height": 900}, {"width": 390, "height": 844}
PICTURED = ("witnessed", "without-proof", "payload", "hostile", "folder-witnessed", "folder-altered")
# Ample: a machine that runs the other tests as well may be slow, and a verdict that never comes is still found.
WAIT_MS = 120_000
# Nothing that Chromium does for itself, such as asking for updates, belongs in a test.
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]
CYRILLIC = range(0x400, 0x500)

faults = []


def expect(condition, what):
    if not condition:
        faults.append(what)


class Shown:
    """The page, opened anew, with whatever it asks for or throws noted."""

    def __init__(self, browser, page, language, viewport=DESKTOP, scheme="light"):
        self.context = browser.new_context(viewport=viewport, color_scheme=scheme, locale="de-DE")
        self.context.set_default_timeout(WAIT_MS)
        self.page = self.context.new_page()
        self.asked, self.thrown = [], []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda fault: self.thrown.append(str(fault)))
        self.page.on("console", lambda line: self.thrown.append(line.text) if line.type == "error" else None)
        self.url = f"file://{page}#{language}"
        self.page.goto(self.url)

    def close(self, name):
        expect(len(self.asked) == 1, f"{name}: the page asked for {self.asked[1:]}")
        expect(not self.thrown, f"{name}: {self.thrown}")
        self.context.close()

    def show(self, case):
        """Gives a case's files as a person would, and waits for the verdict."""
        page, folder = self.page, pathlib.Path(case["dir"])
        if case["policy"]:
            page.set_input_files("#choose-files", {
                "name": "policy", "mimeType": "text/plain", "buffer": pathlib.Path(case["policy"]).read_bytes(),
            })
        if case["folder"]:
            page.set_input_files("#choose-folder", folder)
        else:
            files = [str(it) for it in sorted(folder.iterdir()) if it.is_file() and it.name != "policy"]
            page.set_input_files("#choose-files", files)
        if not page.input_value("#trust"):
            expect(self.verdict() == "none", f"{case['name']}: a verdict without a fingerprint")
        page.fill("#trust", case["trust"])
        self.wait(":not([data-verdict=none])")

    def wait(self, state):
        """By a selector: the page's policy forbids what would wait by a script."""
        self.page.wait_for_selector(f"#main{state}", timeout=WAIT_MS)

    def verdict(self):
        return self.page.get_attribute("#main", "data-verdict")

    def reached(self):
        return [it.get_attribute("data-level") for it in self.page.query_selector_all(".levels li[data-state=good]")]


def check_case(browser, page_file, case, language):
    shown = Shown(browser, page_file, language)
    shown.show(case)
    name, page = case["name"], shown.page
    rule = (page.get_attribute("#main", "data-rules") or "").split(" ")[0]
    found = (shown.verdict(), rule, shown.reached())
    wanted = (case["verdict"], case["rule"], case["levels"])
    expect(found == wanted, f"{name}: {found}, wanted {wanted}")
    expect(page.get_attribute("html", "lang") == language, f"{name}: not in {language}")
    text = page.inner_text("#outcome")
    is_cyrillic = any(ord(letter) in CYRILLIC for letter in page.inner_text("#verdict h2"))
    expect(is_cyrillic == (language != "en"), f"{name}: the verdict is not in {language}")
    for slip in ("undefined", "[object", "NaN", "{0}", "{1}"):
        expect(slip not in text, f"{name}: {slip} in {language}")
    if case["verdict"] == "bad":
        expect(len(page.inner_text("#verdict .remedy")) > 20, f"{name}: no remedy")
    if name == "hostile":
        check_hostile(page, language)
    shown.close(name)


def check_hostile(page, language):
    expect("owned" not in page.title(), "hostile: a script of the file ran")
    expect(page.query_selector("#outcome img, #outcome b") is None, "hostile: the file's markup was read")
    text = page.inner_text("#outcome")
    for said in ("<img src=x onerror=", "constructor", "__proto__", "toString", "<b>POL_HELD</b>", "\\u{202e}"):
        expect(said in text, f"hostile: {said} is not shown as it stands ({language})")
    expect("\u202e" not in text, "hostile: a mark of direction reached the screen")


def check_by_hand(browser, page_file, cases):
    """What a person does: a wrong fingerprint, the keyboard, another language, another file."""
    shown = Shown(browser, page_file, "xx")
    page = shown.page
    expect(page.get_attribute("html", "lang") == "en", "an unknown language is not English")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowLeft")
    expect(page.get_attribute("html", "lang") == "ru", "the arrow keys do not choose a language")
    page.keyboard.press("Tab")
    focused = page.evaluate("document.activeElement.id")
    expect(focused == "trust", f"behind the languages the keyboard comes to {focused}")
    page.keyboard.type("sha256:12")
    expect(page.is_visible("#trust-fault"), "a malformed fingerprint is not told")
    good = cases["good"]
    page.fill("#trust", good["trust"])
    expect(not page.is_visible("#trust-fault"), "a good fingerprint is refused")
    receipt = pathlib.Path(good["dir"]) / "receipt.jws"
    page.set_input_files("#choose-files", str(receipt))
    page.wait_for_timeout(200)
    expect(shown.verdict() == "none", "a verdict without a register")
    shown.show(good)
    expect(shown.verdict() == "good", "files given one after the other are not put together")
    page.fill("#trust", "0" * 64)
    shown.wait("[data-verdict=bad]")
    page.fill("#trust", good["trust"])
    shown.wait("[data-verdict=good]")
    page.check("input[value=kk]", force=True)
    expect("түпнұсқа" in page.inner_text("#verdict"), "the verdict does not change its language")
    expect("түпнұсқа" in page.text_content("#announce"), "a screen reader is not told the verdict")
    page.click("#clear")
    expect(shown.verdict() == "none" and not page.inner_text("#outcome"), "clearing leaves something")
    shown.close("by hand")


def check_access(browser, page_file, case):
    """Every control has a name, the text keeps its contrast, and nothing runs out of a telephone's screen."""
    for scheme in ("light", "dark"):
        shown = Shown(browser, page_file, "kk", PHONE, scheme)
        shown.show(case)
        page = shown.page
        wide = page.evaluate("document.documentElement.scrollWidth")
        expect(wide <= PHONE["width"], f"{case['name']}: {wide} pixels wide on a telephone")
        nameless = page.evaluate(
            "[...document.querySelectorAll('input, button, select')].filter((it) => !it.hidden &&"
            " !it.labels?.length && !it.textContent.trim() && !it.ariaLabel).map((it) => it.outerHTML)"
        )
        expect(not nameless, f"controls without a name: {nameless}")
        for selector, ratio in page.evaluate(CONTRASTS):
            expect(ratio >= 4.5, f"contrast {ratio:.2f} of {selector} in {scheme}")
        shown.close(f"{case['name']} on a telephone, {scheme}")


# The contrast (WCAG 2) of the text of each kind with the first background behind it that is not clear.
CONTRASTS = """
(() => {
  const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => {
    const [r, g, b] = channels(colour).map((it) => it / 255).map((it) => (it <= 0.03928 ? it / 12.92 : ((it + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (channels(colour)[3] !== 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const kinds = ["h1", "h2", "#verdict h2", "#verdict p", ".quiet", ".levels p", "dt", "dd", ".steps li", ".remedy", "button", ".button", ".button.plain", ".languages label", "footer p", "summary", ".mono"];
  return kinds.flatMap((kind) => [...document.querySelectorAll(kind)].slice(0, 8).map((node) => {
    const [a, b] = [light(getComputedStyle(node).color), light(behind(node))].sort((x, y) => y - x);
    return [kind, (a + 0.05) / (b + 0.05)];
  }));
})()
"""


def take_pictures(browser, page_file, cases, pictures):
    shutil.rmtree(pictures, ignore_errors=True)
    pictures.mkdir(parents=True)
    for name in PICTURED:
        for language in LANGUAGES:
            for device, viewport, scheme in (("desktop", DESKTOP, "light"), ("phone", PHONE, "dark")):
                shown = Shown(browser, page_file, language, viewport, scheme)
                shown.show(cases[name])
                shown.page.screenshot(path=pictures / f"{name}-{language}-{device}.png", full_page=True)
                shown.close(f"{name}, {language}, {device}")
    shown = Shown(browser, page_file, "ru")
    shown.show(cases["witnessed"])
    shown.page.emulate_media(media="print")
    shown.page.pdf(path=pictures / "witnessed-print.pdf", format="A4")
    shown.page.screenshot(path=pictures / "witnessed-print.png", full_page=True)
    shown.close("print")


def main():
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    page_file = pathlib.Path(sys.argv[1]).resolve()
    cases = {case["name"]: case for case in json.loads(pathlib.Path(sys.argv[2]).read_text())}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        for number, case in enumerate(cases.values()):
            check_case(browser, page_file, case, LANGUAGES[number % 3])
        for language in LANGUAGES:
            check_case(browser, page_file, cases["hostile"], language)
        check_by_hand(browser, page_file, cases)
        check_access(browser, page_file, cases["witnessed"])
        check_access(browser, page_file, cases["folder-altered"])
        if len(sys.argv) == 4:
            take_pictures(browser, page_file, cases, pathlib.Path(sys.argv[3]))
        browser.close()
    if faults:
        sys.exit("\n".join(faults))
    print(f"ok: {len(cases)} cases")


if __name__ == "__main__":
    main()
