"""Parts of the README in pages of the site: its links and pictures go by where the page is, not the README."""

import os
import re
from pathlib import Path

from sphinx.application import Sphinx

RELATIVE = re.compile(r'(?<=\]\()(?!\w+:|#)[^)\s]+(?=\)|\s")')


def moved(text: str, there: Path, here: Path) -> str:
    """Markdown of a file in the folder `there`, with relative links that hold in the folder `here`."""
    return RELATIVE.sub(lambda link: Path(os.path.relpath(there / link[0], here)).as_posix(), text)


def on_include(app: Sphinx, path: Path, parent: str, content: list[str]) -> None:
    content[0] = moved(content[0], path.parent, Path(app.env.docname).parent)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("include-read", on_include)
    return {"parallel_read_safe": True}
