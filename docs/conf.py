"""Settings of the documentation: ``python -m sphinx -W -b html docs OUT``."""

from twisted_dist.version import VERSION

project = "twisted_dist"
author = "the twisted_dist developers"
version = release = VERSION
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"twisted_dist {VERSION}"
exclude_patterns = ["changes/*", "examples"]
# the package's docstrings mark names with single backquotes
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_inherit_docstrings = False
myst_heading_anchors = 3
