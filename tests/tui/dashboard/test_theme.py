"""The shipped themes can be read by eyes, and a person's own cannot break the dashboard."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest
from rich.color import ColorSystem
from textual.color import Color
from textual.theme import Theme

from modeldeck.tui.dashboard import theme
from modeldeck.tui.dashboard.app import Dashboard
from modeldeck.tui.dashboard.theme import fitting, ink, load, parse
from modeldeck.tui.dashboard.widgets.table import Table

SHIPPED = load(None)
OWN_COLOURS = [shipped for shipped in SHIPPED.themes if not shipped.ansi]
INKS = ("foreground", "muted", "primary", "secondary", "accent", "success", "warning", "error")
GROUNDS = ("background", "surface", "panel")
DEPTHS = (ColorSystem.TRUECOLOR, ColorSystem.EIGHT_BIT)

GOOD = 'name = "mine"\nprimary = "#ff8800"\n'


def seen(color: Color, depth: ColorSystem) -> Color:
    """A colour as a terminal of that depth shows it."""
    return Color.from_rich_color(color.rich_color.downgrade(depth), ansi=False)


def luminance(color: Color) -> float:
    """Relative luminance (WCAG 2.2, 1.4.3)."""
    parts = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in color.normalized]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(one: Color, other: Color) -> float:
    """Contrast ratio (WCAG 2.2, 1.4.3), from 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_ships_what_was_promised() -> None:
    assert SHIPPED.problems == ()
    names = {shipped.name for shipped in SHIPPED.themes}
    assert {theme.DEFAULT, theme.SIXTEEN, theme.PLAIN, "contrast"} <= names
    assert len(names) >= 6
    assert sum(not shipped.dark for shipped in SHIPPED.themes) >= 2


@pytest.mark.parametrize("shipped", OWN_COLOURS, ids=lambda shipped: shipped.name)
@pytest.mark.parametrize("depth", DEPTHS, ids=lambda depth: depth.name)
def test_every_ink_is_readable_on_every_ground(shipped: Theme, depth: ColorSystem) -> None:
    variables = shipped.to_color_system().generate()
    least = 7.0 if "contrast" in shipped.name and depth is ColorSystem.TRUECOLOR else 4.5
    muted = Color.from_rich_color(ink(variables).muted.color)
    for name, ground in product(INKS, GROUNDS):
        above = muted if name == "muted" else Color.parse(variables[name])
        ratio = contrast(seen(above, depth), seen(Color.parse(variables[ground]), depth))
        assert ratio >= least, f"{name} on {ground}: {ratio:.1f}"


@pytest.mark.parametrize("shipped", OWN_COLOURS, ids=lambda shipped: shipped.name)
def test_every_ink_is_readable_under_the_cursor_and_when_dimmed(shipped: Theme) -> None:
    """The themes of the terminal's own colours reverse there, since these colours are not known."""
    variables = shipped.to_color_system().generate()
    ground, primary = (Color.parse(variables[name]) for name in ("background", "primary"))
    [share] = re.findall(
        r":focus > .table--cursor { background: \$primary (\d+)%", Table.DEFAULT_CSS
    )
    [kept] = re.findall(r"stale ContentSwitcher { opacity: (\d+)%", Dashboard.CSS)
    cursor = ground.blend(primary, int(share) / 100)
    muted = Color.from_rich_color(ink(variables).muted.color)
    for name in INKS:
        above, least = (muted, 3.0) if name == "muted" else (Color.parse(variables[name]), 4.5)
        ratio = contrast(above, cursor)
        assert ratio >= least, f"{name} under the cursor: {ratio:.1f}"
        if name in ("foreground", "muted"):
            ratio = contrast(ground.blend(above, int(kept) / 100), ground)
            assert round(ratio, 1) >= least, f"{name}, dimmed: {ratio:.1f}"


@pytest.mark.parametrize("shipped", OWN_COLOURS, ids=lambda shipped: shipped.name)
@pytest.mark.parametrize("depth", DEPTHS, ids=lambda depth: depth.name)
def test_the_frame_stands_out_from_what_it_frames(shipped: Theme, depth: ColorSystem) -> None:
    variables = shipped.to_color_system().generate()
    panel, ground = (Color.parse(variables[name]) for name in ("panel", "background"))
    assert seen(panel, depth) != seen(ground, depth)


@pytest.mark.parametrize("name", [theme.SIXTEEN, theme.PLAIN])
def test_the_terminals_own_colours_stay_its_own(name: str) -> None:
    [shipped] = [shipped for shipped in SHIPPED.themes if shipped.name == name]
    variables = shipped.to_color_system().generate()
    inks = ink(variables)
    for color in (inks.primary.color, inks.success.color, inks.error.color):
        assert color is not None
        assert color.is_system_defined
    assert inks.muted.dim
    assert Color.parse(variables["background"]).ansi == -1


@pytest.mark.parametrize("name", [theme.SIXTEEN, theme.PLAIN])
def test_no_ground_is_painted_on_a_terminal_whose_own_is_not_known(name: str) -> None:
    """Black is a stripe on a light terminal; only what is selected has a ground of its own."""
    [shipped] = [shipped for shipped in SHIPPED.themes if shipped.name == name]
    variables = shipped.to_color_system().generate()
    black = {key for key, value in variables.items() if value == "ansi_black"}
    assert black <= {"screen-selection-foreground"}
    for key in variables:
        if key.startswith("scrollbar-background"):
            assert variables[key] == "ansi_default", key


def test_the_theme_without_colours_has_none() -> None:
    [shipped] = [shipped for shipped in SHIPPED.themes if shipped.name == theme.PLAIN]
    variables = shipped.to_color_system().generate()
    coloured = {
        key
        for key, value in variables.items()
        if value.startswith("ansi_") and value.split()[0] != "ansi_default"
    }
    assert {key for key in coloured if "selection" not in key} == set()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name = ", "Invalid value"),
        ("", "name"),
        ('name = "mine"', "primary"),
        ('name = "mine"\nprimary = 4', "Expected `str`"),
        ('name = "mine"\nprimary = "not a colour"', "primary is not a colour"),
        ('name = "mine"\nprimary = "auto"', "primary is not a colour"),
        ('name = "Mine own"\nprimary = "red"', "a name is small letters"),
        ('name = "../x"\nprimary = "red"', "a name is small letters"),
        (GOOD + 'prmiary = "red"', "no entry 'prmiary'"),
        (GOOD + '[variables]\nborder = "nonsense"', "border is not a colour"),
        (GOOD + '[variables]\nborder = "red; color: blue"', "border is not a colour"),
        (GOOD + '[variables]\nbodrer = "red"', "no variable 'bodrer'"),
        (GOOD + '[variables]\nblock-cursor-text-style = "wobbly"', "is not a text style"),
        (GOOD + '[variables]\nblock-cursor-text-style = "red"', "is not a text style"),
    ],
)
def test_a_bad_theme_says_what_is_wrong_with_it(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse(text)


@pytest.mark.parametrize(
    "variable",
    [
        'border = "red"',
        'border = "red 40%"',
        'text-muted = "auto 55%"',
        'block-cursor-text-style = "bold reverse"',
    ],
)
def test_good_variables_are_taken(variable: str) -> None:
    name, value = variable.split(" = ")
    made = parse(f"{GOOD}[variables]\n{variable}")
    assert made.to_color_system().generate()[name] == value.strip('"')


def test_own_themes_join_the_shipped_and_win_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(GOOD)
    (tmp_path / "b.toml").write_text('name = "deck-dark"\nprimary = "#123456"\n')
    (tmp_path / "c.toml").write_text('name = "broken"\nprimary = "nothing"\n')
    (tmp_path / "d.toml").write_bytes(b'name = "\xff"')
    (tmp_path / "e.toml").mkdir()
    themes = load(tmp_path)
    by_name = {found.name: found for found in themes.themes}
    assert by_name["deck-dark"].primary == "#123456"
    assert by_name["mine"].primary == "#ff8800"
    assert "broken" not in by_name
    assert [problem.split(":")[0] for problem in themes.problems] == [
        "theme c.toml",
        "theme d.toml",
        "theme e.toml",
    ]


@pytest.mark.parametrize(
    ("wanted", "colour_system", "no_color", "shown"),
    [
        ("deck-dark", "truecolor", False, "deck-dark"),
        ("deck-dark", "256", False, "deck-dark"),
        ("deck-dark", "standard", False, "terminal"),
        ("deck-dark", None, False, "plain"),
        ("deck-dark", "truecolor", True, "plain"),
        ("terminal", "standard", False, "terminal"),
        ("terminal", "truecolor", True, "plain"),
        ("plain", "standard", False, "plain"),
    ],
)
def test_a_terminal_gets_a_theme_it_can_show(
    wanted: str, colour_system: str | None, no_color: bool, shown: str
) -> None:
    [chosen] = [found for found in SHIPPED.themes if found.name == wanted]
    assert fitting(chosen, colour_system, no_color=no_color) == shown
