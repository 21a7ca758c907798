"""The plot of docs/performance.md: CPU-milliseconds an image, of this service and of LitServe."""

from collections.abc import Iterator
from html import escape

from tests.load.measure import Case
from tests.load.report import GROUPS, group_ms
from tests.load.result import Result, median, reference

WIDTH, LEFT, RIGHT, TOP = 820, 150, 130, 84
BAR, GAP, CASE_GAP = 18, 3, 16
# The bars can be seen on white and on black. Text and background follow the reader's colour scheme, even if
# the page around them does not.
STYLE = """
svg { font: 13px system-ui, sans-serif; --text: #1f2328; --ground: #ffffff; --line: #d1d9e0; }
@media (prefers-color-scheme: dark) { svg { --text: #f0f6fc; --ground: #0d1117; --line: #3d444d; } }
text { fill: var(--text); } .title { font-weight: 600; font-size: 15px; } .end { text-anchor: end; }
.ground { fill: var(--ground); } .line { stroke: var(--line); } .small { font-size: 12px; }
.proxy { fill: #8250df; } .backend { fill: #0969da; } .database { fill: #1b7c83; } .broker { fill: #bf8700; }
.worker { fill: #2da44e; } .flower { fill: #bf3989; } .litserve { fill: #818b98; }
"""


def draw(result: Result) -> str:
    """An SVG file. Each case has a bar for each system. This service's bar shows its parts."""
    cases = list(result.service)
    widest = max(
        [median(result.service[case], "all_cpu_ms") for case in cases]
        + [median(result.litserve[reference(case)], "all_cpu_ms") for case in cases]
    )
    scale = (WIDTH - LEFT - RIGHT) / widest
    step = 2 * BAR + GAP + CASE_GAP
    height = TOP + len(cases) * step + 8
    bars = [
        line
        for place, case in enumerate(cases)
        for line in draw_case(result, case, TOP + place * step, scale)
    ]
    machine = result.machine
    title = "CPU-milliseconds an image, sum of all parts: less is better"
    size = f'viewBox="0 0 {WIDTH} {height}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{title}">',
            f"<style>{STYLE}</style>",
            f'<rect class="ground" width="{WIDTH}" height="{height}"/>',
            text(12, 24, title, "title"),
            text(12, 44, f"{machine['cpu']}, {machine['cores']} cores, {machine['date']}", "small"),
            *draw_legend(),
            f'<line class="line" x1="{LEFT}" x2="{LEFT}" y1="{TOP - 8}" y2="{height - 8}"/>',
            *bars,
            "</svg>\n",
        ]
    )


def draw_legend() -> Iterator[str]:
    for place, name in enumerate((*GROUPS, "LitServe")):
        x = 12 + place * 100
        yield f'<rect class="{name.lower()}" x="{x}" y="54" width="12" height="12"/>'
        yield text(x + 17, 65, name, "small")


def draw_case(result: Result, case: Case, y: int, scale: float) -> Iterator[str]:
    """Two bars: this service under the load `case`, and LitServe under the load that is compared with it."""
    ours, theirs = result.service[case], result.litserve[reference(case)]
    files = f", {case.files} files" if case.files > 1 else ""
    yield text(LEFT - 8, y + BAR, f"{case.size}{files}", "end")
    yield text(LEFT - 8, y + BAR + 16, f"{case.clients} client{'s' if case.clients > 1 else ''}", "end small")
    x = float(LEFT)
    for group in GROUPS:
        width = group_ms(ours, group) * scale
        yield bar(group, x, y, width, f"{group}: {group_ms(ours, group):.2f}")
        x += width
    ratio = result.ratios(case)["cpu"]
    yield text(x + 6, y + 14, f"{median(ours, 'all_cpu_ms'):.2f} (ratio {ratio:.2f})", "small")
    total = median(theirs, "all_cpu_ms")
    yield bar("litserve", LEFT, y + BAR + GAP, total * scale, f"LitServe: {total:.2f}")
    yield text(LEFT + total * scale + 6, y + BAR + GAP + 14, f"{total:.2f}", "small")


def bar(name: str, x: float, y: float, width: float, title: str) -> str:
    place = f'x="{x:.1f}" y="{y}" width="{width:.1f}" height="{BAR}"'
    return f'<rect class="{name}" {place}><title>{title}</title></rect>'


def text(x: float, y: float, content: str, classes: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{classes}">{escape(content)}</text>'
