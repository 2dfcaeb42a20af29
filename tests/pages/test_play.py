"""The two pages "Play": their numbers are the library's, and they work by keyboard, on a phone and without a network."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from icl_lib.mean_field.critical_points import SaddleConfig, saddle
from icl_lib.mean_field.flows import FlowConfig, flow, start
from icl_lib.mean_field.kernels import Erf
from icl_lib.mean_field.landscape import velocity
from icl_lib.mean_field.measure import Particles, TeacherConfig, teachers
from icl_lib.softmax.floors import exact_counts
from icl_lib.softmax.model import Params, forward
from icl_lib.softmax.patterns import Patterns, build_patterns, out_of_domain, stack_patterns
from icl_lib.softmax.prompts import Prompts
from icl_lib.softmax.pruning import CRITERIA, keep, prune
from icl_lib.softmax.training import initial_state, train
from tests.pages.conftest import Visit
from tools import play

FOLDER = Path("_static/play")
PAGES = {"play_transformer": "#play-transformer", "play_flow": "#play-flow"}
MODEL = play.load()
N_PROMPTS = 120


@pytest.fixture
def show(html: Path, visit: Visit) -> Callable[[str], Any]:
    """Open one of the two pages at the width of a screen."""

    def opened(name: str, width: int = 1280) -> Any:
        visit.page.set_viewport_size({"width": width, "height": 900})
        visit.open((html / "chapters" / f"{name}.html").as_uri())
        return visit.page

    return opened


def exact(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# --- the weights


def test_the_weights_belong_to_the_library():
    assert MODEL["source"] == play.source_hash(), "the library has changed: run `make play`"
    assert MODEL["config"] == json.loads(play.config_json(play.CONFIG))


def test_the_weights_are_those_of_a_fresh_training():
    """Another processor rounds elsewhere, and training carries that on; hence the tolerance for trained weights."""
    ensemble = train([play.CONFIG])
    for name, params, tolerance in (
        ("untrained", initial_state([play.CONFIG]).params, 1e-6),
        ("trained", ensemble.params, 0.02),
    ):
        for part, weight in MODEL[name].items():
            fresh = getattr(params, part)[0].double()
            assert (fresh - exact(weight)).abs().max() <= tolerance * fresh.abs().max(), (name, part)
    assert torch.allclose(patterns_of(None).basis.float(), ensemble.patterns.basis, atol=1e-6)


def test_size():
    sizes = {file.name: file.stat().st_size for file in FOLDER.iterdir()}
    assert sum(sizes.values()) < 500_000, sizes


# --- the prompt


def patterns_of(s1: float | None) -> Patterns:
    """The page's patterns as the library makes them, out of the trained ones."""
    relevant, irrelevant, label = (exact(MODEL[name]) for name in ("relevant", "irrelevant", "label"))
    trained = build_patterns(relevant, irrelevant, label)
    if s1 is not None:
        single = trained._replace(basis=trained.basis.float())
        trained = out_of_domain(single, play.NEW_PATTERNS, len(irrelevant), s1, play.CONFIG.seed)
        trained = trained._replace(basis=trained.basis.double())
    return stack_patterns([trained])


def params_of(which: str) -> Params:
    weights = {name: exact(value)[None] for name, value in MODEL[which].items()}
    stacked = torch.cat([weights["w_q"], weights["w_k"], weights["w_v"]], dim=1)
    return Params(stacked, weights["w_o"], weights["a"])


def prompts_of(prompt: dict, n_relevant: int) -> Prompts:
    """A prompt of the page as the library's codes."""

    def column(name: str) -> list:
        return [context[name] for context in prompt["contexts"]]

    query = prompt["query"]
    other = [n_relevant + j for j in column("other")]
    return Prompts(
        parts=torch.tensor([[[column("pattern"), other]]]),
        kappa=exact([[column("kappa")]]),
        label=exact([[column("label")]]),
        query_parts=torch.tensor([[[query["pattern"], n_relevant + query["other"]]]]),
        query_kappa=exact([[query["kappa"]]]),
        target=exact([[1.0]]),
    )


def library(prompt: dict, which: str, s1: float | None, order: str, rate: float) -> tuple[Any, Tensor]:
    """Activations, and which neurons are left."""
    patterns, params = patterns_of(s1), params_of(which)
    name = {"magnitude": "magnitude", "largest": "largest first", "random": "random", "positive": "a > 0 first"}[order]
    kept = keep(CRITERIA[name](params, [play.CONFIG.seed]), [rate])[:, 0]
    return forward(prune(params, kept), patterns, prompts_of(prompt, patterns.n_relevant)), kept[0]


DRAW_SETTINGS = """(seed) => {
    const u = Play.rng(seed), pick = list => list[Math.floor(u() * list.length)];
    const set = (id, value) => {
        const input = document.getElementById(id);
        input.value = value;
        input.dispatchEvent(new Event(input.tagName === 'SELECT' ? 'change' : 'input'));
    };
    document.getElementById('play-which-' + pick(['trained', 'trained', 'untrained'])).click();
    document.getElementById('play-patterns-' + pick(['trained', 'new'])).click();
    set('play-s1', -1.4 + 0.05 * Math.floor(57 * u()));
    set('play-alpha', 0.05 * Math.floor(21 * u()));
    set('play-contexts', 2 + Math.floor(29 * u()));
    set('play-kappa', 0.1 * Math.floor(31 * u()));
    set('play-rate', 0.01 * Math.floor(101 * u() * u()));
    set('play-order', pick(['magnitude', 'largest', 'random', 'positive']));
    set('play-task', pick([...document.getElementById('play-task').options]).value);
    document.getElementById('play-new').click();
    for (let edits = 0; edits < 5; edits++) {   // by hand: labels, patterns, the query
        const row = pick([...document.querySelectorAll('.play-contexts li:not([hidden])')]);
        row.querySelector('button').click();
        const select = pick([row.querySelector('select'), document.querySelector('.play-query select')]);
        select.value = pick([...select.options]).value;
        select.dispatchEvent(new Event('change'));
    }
    const page = Play.transformerPage, { which, s1, kept } = page.settings();
    return {
        which, s1, kept, rate: page.state.rate, order: page.state.order, prompt: page.prompt(), found: page.result(),
        verdict: document.getElementById('play-verdict').textContent,
        shown: [...document.querySelectorAll('.play-contexts li:not([hidden]) .play-value')].map(e => e.textContent),
    };
}"""


def test_a_prompt_gives_the_librarys_numbers(show):
    page, seen, worst = show("play_transformer"), set(), 0.0
    for seed in range(N_PROMPTS):
        got = page.evaluate(DRAW_SETTINGS, seed)
        act, kept = library(got["prompt"], got["which"], got["s1"], got["order"], got["rate"])
        assert got["kept"] == kept.tolist()
        for name, ours in (
            ("attention", act.attention[0, 0]),
            ("hidden", act.hidden[0, 0]),
            ("output", act.output[0, 0]),
        ):
            off = float((exact(got["found"][name]) - ours).abs().max())
            assert off < 1e-5, (seed, name, off)
            worst = max(worst, off)
        # What is written on the page is that number too.
        output = float(act.output)
        assert abs(float(got["verdict"].split("F = ")[1].split(". ")[0].replace("−", "-")) - output) < 1e-4
        percent = [float(text.rstrip(" %")) for text in got["shown"]]
        assert np.allclose(percent, 100 * act.attention[0, 0].numpy(), atol=0.051)
        seen.add((got["which"], got["s1"] is None, got["order"]))
    assert len(seen) == 16, seen
    print(f"largest difference over {N_PROMPTS} prompts {worst:.2g}")


def test_prompts_have_exact_counts(show):
    page = show("play_transformer")
    for alpha in np.linspace(0, 1, 21).tolist():
        for l in (2, 7, 20, 30):
            assert page.evaluate("([a, l]) => Play.transformer.exactCounts(a, l)", [alpha, l]) == [
                *exact_counts(alpha, l)
            ]


def test_the_page_says_what_one_sees(show):
    """The three experiments that the text proposes, each on the prompt that the page opens with."""
    page = show("play_transformer")

    def output() -> float:
        return page.evaluate("() => Play.transformerPage.result().output")

    def mass() -> float:
        return float(page.locator("#play-mass").inner_text().split(": ")[1].rstrip(" %."))

    def choose(field: str, value: object) -> None:
        page.evaluate(
            """([id, value]) => {
                const input = document.getElementById(id);
                input.value = value;
                ['input', 'change'].forEach(name => input.dispatchEvent(new Event(name)));
            }""",
            [field, value],
        )

    before, attention = output(), mass()
    assert "✓ Right" in page.locator("#play-verdict").inner_text() and attention > 95
    page.check("#play-which-untrained")
    assert mass() < 60
    page.check("#play-which-trained")
    for button in page.locator(".play-same button").all():
        button.click()
    assert output() * before < 0 and "✗ Wrong" in page.locator("#play-verdict").inner_text()
    choose("play-alpha", 0)
    assert "on the 0 of" in page.locator("#play-mass").inner_text()
    choose("play-alpha", 0.8)
    assert output() == before
    choose("play-kappa", 3)
    assert abs(output() - before) < 0.1
    choose("play-kappa", 0.5)
    page.check("#play-patterns-new")
    assert mass() > 95 and abs(output()) > 1
    choose("play-s1", -1.4)
    assert mass() > 95 and abs(output()) < 1 and "✓ Right" in page.locator("#play-verdict").inner_text()
    page.check("#play-patterns-trained")
    choose("play-rate", 0.1)
    assert abs(output() - before) < 1e-9
    choose("play-rate", 0.5)
    assert 0 < output() / before < 0.9
    choose("play-order", "positive")
    assert output() <= 0
    while "the task says +1" not in page.locator("#play-verdict").inner_text():
        page.click("#play-new")
    assert output() <= 0


def test_the_last_value_and_the_last_answer_stay_in_sight(show):
    page = show("play_transformer")
    first = page.evaluate("() => Play.transformerPage.result().output")
    drag = """values => {
        const input = document.getElementById('play-rate');
        for (const value of values) { input.value = value; input.dispatchEvent(new Event('input')); }
        input.dispatchEvent(new Event('change'));
    }"""
    page.evaluate(drag, [0.2, 0.4, 0.6])
    assert page.locator("#play-rate-last").inner_text() == "last 0 %"
    assert f"F = {first:.4f}".replace("-", "−") in page.locator("#play-former").inner_text()
    second = page.evaluate("() => Play.transformerPage.result().output")
    page.evaluate(drag, [0.7])
    assert page.locator("#play-rate-last").inner_text() == "last 60 %"
    assert f"F = {second:.4f}".replace("-", "−") in page.locator("#play-former").inner_text()
    assert page.locator("#play-rate ~ .play-last-mark").is_visible()


def test_a_slider_that_is_off_says_why(show):
    page = show("play_transformer")
    why = page.locator("#play-s1-why")
    assert page.locator("#play-s1").is_disabled() and why.is_visible() and "new mixtures" in why.inner_text()
    assert page.locator("#play-s1").get_attribute("aria-describedby") == "play-s1-why"
    page.check("#play-patterns-new")
    assert page.locator("#play-s1").is_enabled() and why.count() == 0


# --- the flow


def particles(given: dict) -> Particles:
    return Particles(*(exact(given[name])[None] for name in ("a", "w", "p")))


def relative(got: Tensor, ours: Tensor) -> float:
    return float((got - ours).abs().max() / ours.abs().max())


STARTS = """() => {
    const uniform = Play.rng(5), math = Play.flow, states = [];
    for (const spectrum of [[1, 0.5], [1, 0.2]]) {
        const teacher = math.teacherOnAxes(spectrum, 4, 2);
        for (const missing of [[0, 1], [0], [1]]) {
            const at = math.saddle(2, 4, 2, missing, 15, uniform);
            for (const budget of [1e-3, 1e-1, 1]) states.push({ teacher, mu: math.perturb(at, budget, uniform, []) });
        }
        for (let i = 0; i < 5; i++) states.push({ teacher, mu: math.randomStart(30, 2, 4, 2, uniform) });
    }
    return states.map(s => ({ ...s, found: math.velocity(s.teacher, s.mu) }));
}"""


def test_velocity_and_loss_are_the_librarys(show):
    page, worst = show("play_flow"), 0.0
    for one in page.evaluate(STARTS):
        ours = velocity(Erf(), particles(one["teacher"]), particles(one["mu"]))
        found = one["found"]
        off = [
            relative(exact(found["a"]), ours.a[0]),
            relative(exact(found["w"]), ours.w[0]),
            relative(exact(found["loss"]), ours.loss[0]),
        ]
        assert max(off) < 1e-5, off
        worst = max(worst, *off)
    print(f"largest relative difference {worst:.2g}")


def test_teacher_and_saddle_are_the_librarys(show):
    page, spectrum = show("play_flow"), (1.0, 0.5)
    teacher = particles(page.evaluate("() => Play.flow.teacherOnAxes([1, 0.5], 4, 2)"))
    ours = teachers([TeacherConfig("axes", 2, 4, 2, 2.0, spectrum)], Erf())
    for got, want in zip(teacher, ours):
        assert torch.allclose(got, want, atol=1e-12)
    for missing in ((0, 1), (0,), (1,)):
        config = SaddleConfig(spectrum, missing, 4, 2.0, 15, rotate=False, mix=False)
        mu = particles(page.evaluate("m => Play.flow.saddle(2, 4, 2, m, 15, Play.rng(1))", list(missing)))
        want = saddle(config, Erf())[1]
        assert torch.equal(mu.w, want.w) and torch.equal(mu.a, want.a) and abs(float(mu.p.sum()) - 1) < 1e-12
        now = velocity(Erf(), ours, mu)
        assert float(now.loss) == pytest.approx(config.height(), rel=1e-12)
        assert max(now.a.abs().max(), now.w.abs().max()) < 1e-12


def test_a_run_is_the_librarys(show):
    page = show("play_flow")
    page.click("#flow-perturb")
    before = page.evaluate("() => Play.flowPage.get()")
    page.evaluate("() => Play.flowPage.advance(400)")
    after = page.evaluate("() => Play.flowPage.get()")
    dt, cap = page.evaluate("() => [Play.flowPage.DT, Play.flowPage.CAP]")
    config = FlowConfig("euler", dt, 400 * dt, 400 * dt, cap)
    state, history = flow(Erf(), particles(before["teacher"]), start(particles(before["state"]["mu"])), config)
    assert state.step == 400 and after["state"]["time"] == pytest.approx(float(state.time), rel=1e-9)
    assert after["now"]["loss"] == pytest.approx(history["loss"].iloc[-1], rel=1e-5)
    assert relative(exact(after["state"]["mu"]["w"]), state.mu.w[0]) < 1e-5


def test_what_the_flow_does(show):
    """Stays on a saddle, leaves it when touched, not when the touch keeps its symmetry; the loss never rises."""
    page = show("play_flow")

    def losses(steps: int = 60) -> list[float]:
        advance = (
            "n => Array.from({ length: n }, () => { Play.flowPage.advance(10); return Play.flowPage.get().now.loss; })"
        )
        return page.evaluate(advance, steps)

    assert losses(20) == pytest.approx([0.75] * 20, abs=1e-9)
    page.check("#flow-kind-symmetric")
    page.click("#flow-perturb")
    kept = losses()
    assert min(kept) > 0.7499
    page.check("#flow-kind-free")
    page.click("#flow-reset")
    page.click("#flow-perturb")
    free = losses(120)
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(free))
    assert free[-1] < 1e-3 and sum(abs(loss - 0.25) < 0.01 for loss in free) >= 3  # with a pause at the lower saddle
    page.select_option("#flow-start", "blind")
    assert losses(40)[-1] > 0.49
    page.select_option("#flow-start", "random")
    down = losses(40)
    assert down == sorted(down, reverse=True) and down[-1] < 0.05


def test_the_price_of_a_small_perturbation(show):
    """The first plateau grows linearly in ln(1 / epsilon); a smaller lambda_2 makes the second one longer."""
    page = show("play_flow")

    def left(epsilon: int, second: float = 0.5) -> tuple[float, float]:
        """When the loss leaves the heights of the saddles that miss both outputs, and output 2."""
        page.fill("#flow-second", str(second))
        page.click("#flow-reset")
        page.fill("#flow-epsilon", str(epsilon))
        page.click("#flow-perturb")
        times = page.evaluate(
            """heights => heights.map(height => {
                while (Play.flowPage.get().now.loss > 0.95 * height) Play.flowPage.advance(5);
                return Play.flowPage.get().state.time;
            })""",
            [(1 + second) / 2, second / 2],
        )
        return times[0], times[1]

    first = [left(epsilon)[0] for epsilon in (-2, -4, -6, -8)]
    assert np.allclose(np.diff(first), np.diff(first).mean(), atol=1.0) and np.diff(first).min() > 5
    short, long = left(-4), left(-4, 0.3)
    assert long[1] - long[0] > 1.2 * (short[1] - short[0])


def test_the_last_run_stays_in_the_plot(show):
    page = show("play_flow")
    assert page.locator("polyline.play-former").count() == 0
    page.click("#flow-perturb")
    page.evaluate("() => Play.flowPage.advance(50)")
    loss, time = page.evaluate("() => [Play.flowPage.get().now.loss, Play.flowPage.get().state.time]")
    page.fill("#flow-second", "0.3")
    assert page.locator("polyline.play-former").count() == 1
    assert f"Last run: loss {loss:.4f} at time {time:.1f}." in page.locator("#flow-numbers").inner_text()


def test_buttons_of_the_flow(show, visit):
    page = show("play_flow")

    def time() -> float:
        return page.evaluate("() => Play.flowPage.get().state.time")

    page.click("#flow-step")
    assert time() == pytest.approx(0.2)
    page.click("#flow-run")
    page.wait_for_function("() => Play.flowPage.get().state.time > 2")
    assert page.locator("#flow-run").inner_text() == "Pause"
    page.click("#flow-run")
    stopped = time()
    page.wait_for_timeout(200)
    assert time() == stopped and "Paused" in page.locator("#flow-status").inner_text()
    page.click("#flow-reset")
    assert time() == 0
    page.emulate_media(reduced_motion="reduce")
    page.click("#flow-reset")
    assert page.locator("#flow-run").inner_text() == "Run 100 steps"
    page.click("#flow-run")
    assert time() == pytest.approx(20)
    page.wait_for_timeout(200)
    assert time() == pytest.approx(20)
    page.emulate_media(reduced_motion="no-preference")
    assert visit.errors == []


# --- both pages

FOCUSED = """() => {
    const e = document.activeElement, label = e.labels && e.labels[0];
    const named = e.getAttribute('aria-label') || (label && label.textContent.trim()) || (e.tagName === 'BUTTON' && e.textContent.trim());
    return e.closest('.play') && { tag: e.tagName, type: e.type, id: e.id, low: e.min, name: e.name, value: e.value, text: e.textContent, label: named };
}"""


@pytest.mark.parametrize(("name", "root"), PAGES.items())
def test_every_control_by_keyboard(show, name, root):
    page = show(name)
    page.emulate_media(reduced_motion="reduce")
    if name == "play_transformer":
        page.check("#play-patterns-new")  # S1 is greyed out before
        page.evaluate("() => document.activeElement.blur()")
    # From the element before the first control on, as a reader comes along with the tab key.
    page.evaluate(
        "root => { const p = document.createElement('button'); document.querySelector(root).before(p); p.focus(); }",
        root,
    )
    reached = []
    while True:
        page.keyboard.press("Tab")
        now = page.evaluate(FOCUSED)
        if not now:
            break
        assert now["label"], now
        before = page.evaluate("() => document.querySelector('.play').innerHTML")
        if now["type"] == "range":
            page.keyboard.press("ArrowRight" if now["value"] == now["low"] else "ArrowLeft")
        elif now["type"] == "radio":
            page.keyboard.press("ArrowRight")
            reached.append(now["name"])
        elif now["tag"] == "SELECT":
            page.keyboard.press("ArrowDown")
            page.keyboard.press("ArrowUp") if page.evaluate(FOCUSED)["value"] == now["value"] else None
        else:
            page.keyboard.press("Enter")
        after = page.evaluate(FOCUSED)
        if now["id"] not in ("flow-reset",):
            changed = page.evaluate("() => document.querySelector('.play').innerHTML") != before
            assert changed or after["value"] != now["value"], now
        reached.append(now["id"])
    controls = page.evaluate(
        """root => [...document.querySelectorAll(root + ' :is(button, select, input)')]
            .filter(e => e.offsetParent && !e.disabled).map(e => e.type === 'radio' ? e.name : e.id)""",
        root,
    )
    assert {c for c in controls if c} <= set(reached)
    assert len([c for c in controls if not c]) <= len([r for r in reached if not r])  # those of the contexts have no id
    page.emulate_media(reduced_motion="no-preference")


@pytest.mark.parametrize(("name", "root"), PAGES.items())
def test_on_a_phone_without_a_network(show, visit, name, root):
    messages: list[str] = []
    listen = lambda m: messages.append(m.text) if "_static/play/" in m.location.get("url", "") else None  # noqa: E731
    visit.page.on("console", listen)
    page = show(name, width=400)
    if name == "play_transformer":
        page.check("#play-patterns-new")
        page.fill("#play-contexts", "30")
    else:
        page.click("#flow-perturb")
        page.evaluate("() => Play.flowPage.advance(100)")
    assert page.evaluate("document.documentElement.scrollWidth") <= 402
    sticking_out = "root => [...document.querySelectorAll(root + ' *')].filter(e => e.getBoundingClientRect().right > innerWidth).length"
    assert page.evaluate(sticking_out, root) == 0
    assert page.locator(root + " svg[role=img]:not([aria-label])").count() == 0
    assert page.locator(root + " [aria-live=polite]").count() == 1
    assert visit.remote == [] and visit.errors == [] and messages == []
    visit.page.remove_listener("console", listen)


def test_other_pages_do_not_load_the_scripts(html: Path):
    for page in html.rglob("*.html"):
        loads = "_static/play/common.js" in page.read_text()
        assert loads == (page.stem in PAGES), page
