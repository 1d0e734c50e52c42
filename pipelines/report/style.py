"""One look for all pictures, and how a matplotlib figure becomes a file or a piece of a page."""

from __future__ import annotations

import functools
import io
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from packer.errors import MissingExtraError, PackerError
from pipelines.text.clean import in_picture, line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

# Distinct with the common kinds of colour blindness, and on white as on near-black.
BLUE, ORANGE, GREEN, RED, GREY = "#2b7bba", "#d97a00", "#1b9e77", "#c8405a", "#8b919b"
LEVEL_COLOURS = {"node": BLUE, "edge": ORANGE, "graph": GREEN}

# Stand-ins for colours that a page sets itself; good enough in a file of their own.
_INK, _LINE = "#111418", "#c9ced6"
_RC: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _LINE,
    "axes.labelcolor": _INK,
    "axes.titlecolor": _INK,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "grid.color": _LINE,
    "grid.linewidth": 0.6,
    "xtick.color": _LINE,
    "ytick.color": _LINE,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "text.color": _INK,
    "text.parse_math": False,  # a node type may be called $x$
    "text.usetex": False,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "svg.fonttype": "none",
    "svg.hashsalt": "graph-packer",
    "font.sans-serif": ["DejaVu Sans", "sans-serif"],
}
_METADATA: dict[str, dict[Any, Any]] = {
    "svg": {"Date": None, "Creator": None},
    "png": {"Software": None},
    "pdf": {"CreationDate": None},
}
_TITLE = 36  # characters
_ABOUT = {"svg": "Description", "png": "Description", "pdf": "Subject"}


@dataclass(frozen=True)
class Picture:
    """A drawn figure; alt says in words what it shows. Both are made fit to be shown, whatever names are in them."""

    title: str
    alt: str
    figure: Figure

    def __post_init__(self) -> None:
        for name in ("title", "alt"):
            object.__setattr__(self, name, line(getattr(self, name)))


def drawn(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Run a drawing function under the common look; MissingExtraError without matplotlib."""

    @functools.wraps(function)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        try:
            import matplotlib
        except ImportError as error:
            raise MissingExtraError("matplotlib", "report", "drawing") from error
        with matplotlib.rc_context(_RC):
            return function(*args, **kwargs)

    return run


def new_figure(width: float = 4.4, height: float = 2.8, rows: int = 1, **options: Any) -> tuple[Figure, list[Any]]:
    """An empty figure (inches) and its axes, one above the other; small enough to be read on a phone."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, 1, squeeze=False, **options)
    return figure, [row[0] for row in axes]


def finish(axis: Any, title: str = "", x: str = "", y: str = "", grid: str = "y") -> None:
    """Titles and grid of one axis; a title too long for a narrow picture is set smaller."""
    if title:
        words = in_picture(title)
        axis.set_title(words, fontsize=min(11.0, 11.0 * _TITLE / len(words)))
    axis.set_xlabel(in_picture(x))
    axis.set_ylabel(in_picture(y))
    if grid:
        axis.grid(axis=grid)


def whole_ticks(*axes: Any) -> None:
    """Ticks at whole numbers only; axes: `axis.xaxis` or `axis.yaxis`."""
    from matplotlib.ticker import MaxNLocator

    for axis in axes:
        axis.set_major_locator(MaxNLocator(nbins="auto", steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))


def share_bar(axis: Any, row: int, share: float, text: str, colour: str, length: float = 1.0) -> None:
    """A horizontal bar: the real share of it, then hatched padding, and a few words where they can be read."""
    axis.barh(row, length * share, color=colour, height=0.6)
    axis.barh(
        row, length * (1 - share), left=length * share, color=GREY, alpha=0.35, height=0.6, hatch="////", linewidth=0
    )
    inside = share > 0.35
    ground = {} if inside else {"bbox": {"facecolor": "white", "edgecolor": "none", "pad": 1.5, "alpha": 0.85}}
    at = length * (0.015 if inside else share + 0.02)
    axis.text(at, row, text, va="center", color="white" if inside else colour, weight="bold", **ground)


def colour_of(key: str) -> str:
    """By level; an edge type's key has the form source__relation__target."""
    return LEVEL_COLOURS.get(key, LEVEL_COLOURS["edge" if "__" in key else "node"])


def save_picture(picture: Picture, path: Path) -> None:
    """Write a file by its suffix: .svg, .png or .pdf. The same picture gives the same bytes."""
    kind = path.suffix.lower().lstrip(".")
    if kind not in _METADATA:
        raise PackerError(f"{path}: pictures are written as .svg, .png or .pdf")
    path.write_bytes(_rendered(picture, kind))


def save_pictures(pictures: Sequence[Picture], path: Path) -> list[Path]:
    """One file for each picture: PATH, then PATH with -2, -3, ... before the suffix."""
    paths = [path if i == 1 else path.with_name(f"{path.stem}-{i}{path.suffix}") for i in range(1, len(pictures) + 1)]
    for picture, file in zip(pictures, paths, strict=True):
        save_picture(picture, file)
    return paths


def inline_svg(picture: Picture, prefix: str) -> str:
    """An <svg> element for a page: its text in the page's font and colours, its ids under `prefix`."""
    text = _rendered(picture, "svg", transparent=True).decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<title>.*?</metadata>", "", text, count=1, flags=re.DOTALL)  # the label of the element says it
    text = re.sub(r'\b(id|xlink:href)="(#?)', rf'\1="\2{prefix}-', text)
    text = text.replace("url(#", f"url(#{prefix}-")
    text = re.sub(rf'xlink:href="{prefix}-(data:)', r'xlink:href="\1', text)
    text = text.replace(_INK, "currentColor").replace(_LINE, "var(--line)")
    text = re.sub(r"font: ([^;\"]*?)'DejaVu Sans'[^;\"]*", r"font: \1var(--sans)", text)
    width, height = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text).groups()  # pyright: ignore[reportOptionalMemberAccess]
    head = f'<svg role="img" aria-label="{escape(picture.alt)}" viewBox="0 0 {width} {height}" '
    head += 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
    return head + text[text.index(">") + 1 :]


def svg_text(picture: Picture) -> str:
    """The picture as an SVG file of its own."""
    return _rendered(picture, "svg").decode()


def escape(text: object) -> str:
    """One line of text for HTML, in elements and in quoted attributes."""
    from html import escape as escape_html

    return escape_html(line(text), quote=True)


def _rendered(picture: Picture, kind: str, **options: Any) -> bytes:
    """The file, which says in its own metadata what it shows."""
    import matplotlib

    buffer, words = io.BytesIO(), {"Title": picture.title, _ABOUT[kind]: picture.alt}
    with matplotlib.rc_context(_RC), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # drawn as a box; in an SVG by the reader's fonts
        warnings.filterwarnings("ignore", "constrained_layout not applied")  # names longer than a picture is wide
        picture.figure.savefig(buffer, format=kind, metadata={**_METADATA[kind], **words}, dpi=160, **options)
    return buffer.getvalue()
