"""The rules of axe-core of severity serious or critical, applied to a page in the browser."""

from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page

# Rules that the theme itself breaks, each with the reason why we cannot mend it: none.
THEME: dict[str, str] = {}
# Code has thousands of coloured words and a page hundreds of formulas: the first of each kind is enough.
# Lines that wrap stay: without them code would scroll that does not.
THIN = """() => {
    const seen = new Set();
    for (const word of document.querySelectorAll('.highlight span[class]:not(.code-line)')) {
        const kind = word.className;
        if (seen.has(kind)) word.replaceWith(...word.childNodes);
        seen.add(kind);
    }
    [...document.querySelectorAll('mjx-container')].slice(3).forEach(formula => formula.remove());
}"""
AXE = """async () => {
    const found = await axe.run(document, {resultTypes: ['violations'], preload: false});
    return found.violations.filter(v => ['serious', 'critical'].includes(v.impact)).flatMap(
        v => v.nodes.map(n => [v.id, n.target.join(' '), n.failureSummary.slice(0, 240)]));
}"""


def violations(page: Page) -> list[list[str]]:
    """What is wrong with a page as it is shown; it is thinned out by this, so open it anew for anything else."""
    page.evaluate(THIN)
    page.evaluate(AXE_SCRIPT)
    return [found for found in page.evaluate(AXE) if found[0] not in THEME]
