"""Sphinx' settings.  The source is the repository as it lies, so that a link that works on GitHub works in the site."""

import sys
from pathlib import Path

import minidbp
from minidbp.files import page

sys.path.insert(0, str(Path(__file__).parent))  # for the modules beside this file

project = "minidbp"
version = release = minidbp.__version__
language = "en"
root_doc = "docs/index"

include_patterns = [
    "docs/**.md",
    "notebooks/*.ipynb",
    "results/**.md",
    "benchmarks/NOTES.md",
    "data/README.md",
]
exclude_patterns = [".*", "out", "build", "tests", "minidbp"]  # never walked through
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "myst_nb", "executed_notebooks", "included_links", "mathml"]

autodoc_typehints = "none"  # the docstrings give shapes and dtypes
autodoc_member_order = "bysource"
default_role = "code"  # `x` in a docstring is code
napoleon_numpy_docstring = False  # the sections are Google's
napoleon_use_ivar = True

myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # they have been run: see executed_notebooks.py
nb_render_markdown_format = "myst"  # what cells display, as what they say
nb_ipywidgets_js = {}  # would come from a network
smartquotes = False  # "A" is a word of Python

html_theme = "furo"
html_title = "minidbp"
teaching = Path(minidbp.__file__).parent / "teaching"
html_static_path = [
    "site.css",
    str(Path(page.__file__).with_name("print.css")),
    *(str(teaching / name) for name in ("frames.css", "frames.js", "font/formulas.css", "font/formulas.woff")),
]
html_css_files = ["print.css", "formulas.css", "frames.css", "site.css"]
html_js_files = [("frames.js", {"defer": "defer"})]
html_extra_path = ["index.html"]
html_copy_source = False
html_show_copyright = False
