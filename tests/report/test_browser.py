"""The report in a headless Chromium: drawn without an error, in light, dark and on a phone."""

from dataclasses import replace

import pytest
import vl_convert
from browser import chromium, missing_browser
from fake_records import BASQUE, GSM8K, FakeStudy, fake_records
from fake_report import COMMAND, CONFIG, PLAN, TIME, without_pixels

from replay_jax.analysis.study.analyse import analyse
from replay_jax.report.advice import advise
from replay_jax.report.drawing import draw_figures
from replay_jax.report.html import render_page
from replay_jax.report.page import build_page

MISSING = missing_browser()
if MISSING:
    print(f"tests of the report in a browser are skipped: {MISSING}")
pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))

SHOWN = "[...document.querySelectorAll('.chart')].filter(c => c.clientWidth > 0)"
BOTH = FakeStudy((BASQUE, GSM8K), seeds=(0, 1), candidate_budgets=(4096,), allocations=(1.0, 0.5))


@pytest.fixture(scope="module")
def page():
    records = fake_records(BOTH)
    study = analyse(records, CONFIG, resamples=200)
    asked = replace(PLAN, question=f"Asked with --config.data.generic={'a_long_folder/' * 20}")
    return build_page(
        records, study, advise(study), plan_summary=asked, time_rows=TIME, rerun_command=COMMAND
    )


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def path(page, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    with pytest.MonkeyPatch.context() as patch:
        # What the page's script draws is looked at; the pictures under it are test_report.py's.
        patch.setattr(vl_convert, "vegalite_to_svg", lambda *_, **__: "<svg/>")
        without_pixels(patch)
        path.write_text(render_page(page, draw_figures(page.figures())))
    return path


@pytest.fixture
def opened(browser, path):

    def open_as(*, width, dark=False):
        browser.look(width=width, height=900, dark=dark)
        browser.console()
        browser.open(path)
        look = f"{'dark' if dark else 'light'} {'narrow' if width < 520 else 'wide'}"
        browser.wait_for(f"{SHOWN}.every(c => c.dataset.drawn === '{look}')")
        return browser

    return open_as


@pytest.mark.parametrize(("width", "dark"), [(1100, False), (1100, True), (390, False)])
def test_every_chart_is_drawn_and_the_console_is_silent(opened, page, tmp_path, width, dark):
    browser = opened(width=width, dark=dark)
    assert browser.console() == []
    drawn = browser.run(f"return {SHOWN}.map(c => [c.id, c.querySelectorAll('svg path').length])")
    first = (page.targets[0], None)
    assert {name for name, _ in drawn} == {f.name for f in page.figures() if f.target in first}
    assert all(marks > 5 for _, marks in drawn), drawn
    assert browser.run("return performance.getEntriesByType('resource').length") == 0
    # Nothing sticks out of the page; wide tables scroll inside their own box.
    assert browser.run("return document.documentElement.scrollWidth") <= width
    overflow = f"return {SHOWN}.filter(c => c.scrollWidth > c.clientWidth + 1).map(c => c.id)"
    assert browser.run(overflow) == []
    picture = tmp_path / "page.png"
    browser.screenshot(picture)
    assert picture.stat().st_size > 100_000


def test_light_and_dark_follow_the_system_and_the_button(opened):
    paper = "return getComputedStyle(document.body).backgroundColor"
    ink = "return getComputedStyle(document.querySelector('h1')).color"
    light = opened(width=900)
    bright, black = light.run(paper), light.run(ink)
    light.run("document.getElementById('theme').click()")
    light.wait_for(f"{SHOWN}.every(c => c.dataset.drawn.startsWith('dark'))")
    chosen = light.run(paper)
    dark = opened(width=900, dark=True)
    assert (bright, black) == ("rgb(255, 255, 255)", "rgb(27, 31, 36)")
    assert chosen == dark.run(paper) == "rgb(20, 23, 28)"
    label = f"return getComputedStyle({SHOWN}[0].querySelector('.role-axis-title text')).fill"
    assert dark.run(label) == "rgb(232, 234, 237)"
    assert dark.console() == []


def test_choosing_a_target_shows_its_answer_and_figures(opened, page):
    browser = opened(width=1100)
    heading = "return [...document.querySelectorAll('h1')].filter(h => h.offsetParent)[0].innerText"
    before = browser.run(heading)
    assert before.replace("\u00a0", " ") == page.answers[0].sentence.replace("\u00a0", " ")
    browser.run(
        "const s = document.getElementById('target'); s.value = 'gsm8k';"
        "s.dispatchEvent(new Event('change'))"
    )
    browser.wait_for(f"{SHOWN}.every(c => c.dataset.drawn && !c.id.includes('basque'))")
    after = browser.run(heading).replace("\u00a0", " ")
    assert after == page.answers[1].sentence.replace("\u00a0", " ") != before
    names = set(browser.run(f"return {SHOWN}.map(c => c.id)"))
    assert names == {figure.name for figure in page.figures() if figure.target != "basque"}
    assert browser.console() == []


def test_hovering_a_point_names_its_values(opened):
    browser = opened(width=1100)
    x, y = browser.run(
        f"const c = {SHOWN}.find(c => c.id.startsWith('efficiency'));"
        "c.scrollIntoView({block: 'center'});"
        "const points = c.querySelectorAll('path[aria-roledescription=point]');"
        "const box = points[points.length - 1].getBoundingClientRect();"
        "return [box.x + box.width / 2, box.y + box.height / 2]"
    )
    browser.devtools("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    browser.wait_for("document.querySelector('#vg-tooltip-element.visible')")
    words = browser.run("return document.getElementById('vg-tooltip-element').innerText")
    assert "constant mixture" in words and "4,096" in words and "worth" in words
    assert browser.console() == []


def test_a_table_fits_a_desktop_and_on_a_phone_shows_that_there_is_more(opened):
    boxes = "[...document.querySelectorAll('div > .scroll')].filter(s => s.clientWidth > 0)"
    wide = f"return {boxes}.filter(s => s.scrollWidth > s.clientWidth).length"
    assert opened(width=1200).run(wide) == 0
    phone = opened(width=390)
    assert phone.run(wide) > 0
    # Shadows stay at the box's edges; covers of the page's colour scroll along with the table.
    seen = f"return getComputedStyle({boxes}[0]).backgroundAttachment"
    assert phone.run(seen) == "local, local, scroll, scroll"
    cell = f"return getComputedStyle({boxes}[0].querySelector('td')).backgroundColor"
    assert phone.run(cell) == "rgba(0, 0, 0, 0)"


def test_the_menu_of_a_figure_covers_nothing_of_it(opened):
    browser = opened(width=1100)
    covered = browser.run(
        f"return {SHOWN}.filter(c => c.querySelector('summary').getBoundingClientRect().bottom"
        " > c.querySelector('svg.marks').getBoundingClientRect().top + 2).map(c => c.id)"
    )
    assert covered == []
