"""Puts a picture and its predictions side by side, with legends and scales, by Pillow alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from trainables.pictures.colours import Colours, scale_table

_SIDE = 420  # pixels; the longest a panel is drawn
_GAP, _LINE, _BAR = 18, 18, 12
_TITLE_SIZE, _TEXT_SIZE = 16, 13
_COLUMNS = (3, 2, 4, 5)  # the first of those that leave the fewest places empty
_MAX_ENTRIES = 12
_INK, _QUIET = (27, 31, 36), (91, 100, 114)


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """Holds one map in colours, (H, W, 3), and what explains it.

    entries: a legend's colours and texts. scale, ends, unit: of a scale of values; the name of the
    scale, and the texts at its low and high end.
    """

    title: str
    colours: Colours
    entries: Sequence[tuple[tuple[int, ...], str]] = ()
    scale: str | None = None
    ends: tuple[str, str] = ("", "")
    unit: str = ""


def overview(panels: Sequence[Panel]) -> Image.Image:
    """Return all panels in equal rows, each with its title, legend and scale."""
    height, width = panels[0].colours.shape[:2]
    factor = _SIDE / max(height, width)
    shown = max(1, round(width * factor)), max(1, round(height * factor))
    column = max(shown[0], 260)  # room for two columns of a legend
    below = max(_room(panel) for panel in panels)
    cell = column + _GAP, _LINE + 6 + shown[1] + below + _GAP
    columns = min(len(panels), min(_COLUMNS, key=lambda count: -len(panels) % count))
    rows = -(-len(panels) // columns)
    sheet = Image.new("RGB", (columns * cell[0] + _GAP, rows * cell[1] + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for place, panel in enumerate(panels):
        left, top = (place % columns) * cell[0] + _GAP, (place // columns) * cell[1] + _GAP
        draw.text((left, top), panel.title, fill=_INK, font=_font(_TITLE_SIZE))
        # Enlarged pixels stay squares, and class colours are never mixed.
        smooth = not panel.entries and factor < 1
        how = Image.Resampling.BOX if smooth else Image.Resampling.NEAREST
        picture = Image.fromarray(panel.colours).resize(shown, how)
        sheet.paste(picture, (left, top + _LINE + 6))
        _explain(draw, sheet, panel, left, top + _LINE + 6 + shown[1] + 8, column)
    return sheet


def _room(panel: Panel) -> int:
    """Return the height of what stands below a panel's map."""
    bar = _BAR + 2 * _LINE if panel.scale else 0
    return 8 + bar + _LINE * -(-len(_listed(panel)) // 2)


def _explain(
    draw: ImageDraw.ImageDraw, sheet: Image.Image, panel: Panel, left: int, top: int, width: int
) -> None:
    font = _font(_TEXT_SIZE)
    if panel.scale:
        colours = np.repeat(scale_table(panel.scale)[None], _BAR, axis=0)
        bar = Image.fromarray(colours).resize((width, _BAR), Image.Resampling.NEAREST)
        sheet.paste(bar, (left, top))
        low, high = panel.ends
        draw.text((left, top + _BAR + 2), low, fill=_QUIET, font=font)
        draw.text((left + width // 2, top + _BAR + 2), panel.unit, _QUIET, font, anchor="ma")
        draw.text((left + width, top + _BAR + 2), high, fill=_QUIET, font=font, anchor="ra")
    for place, (colour, text) in enumerate(_listed(panel)):
        x, y = left + (place % 2) * (width // 2), top + (place // 2) * _LINE
        if colour:
            draw.rectangle((x, y + 2, x + 11, y + 13), fill=colour, outline=_QUIET)
        draw.text((x + 17, y), text, fill=_QUIET, font=font)


def _listed(panel: Panel) -> list[tuple[tuple[int, ...], str]]:
    entries = list(panel.entries)
    if len(entries) <= _MAX_ENTRIES:
        return entries
    shown = entries[: _MAX_ENTRIES - 1]
    return [*shown, ((), f"and {len(entries) - len(shown)} more")]


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
