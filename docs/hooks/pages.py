"""MkDocs hook: the repository's pages as a site.

Links stay as they are in the repository, relative to the file they stand in. Here each is resolved against that place:
one to a page or file of the site becomes a link of the site, one to code or a folder becomes plain text, and any other
stays, so that a strict build fails. The pages outside `docs/` and one page for each module of the navigation are added.
"""

import posixpath
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

CHECKOUT = Path(__file__).resolve().parents[2]

ADDED = {
    "README.md": "index.md",
    "docs/README.md": "contents.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "SECURITY.md": "SECURITY.md",
    "CHANGELOG.md": "CHANGELOG.md",
    **{
        f"{package}/assets/{card.name}": f"cards/{card.name}"
        for package in ("fusion_env", "student")
        for card in CHECKOUT.glob(f"{package}/assets/*.md")
    },
}
"""Pages that do not lie in `docs/`, or lie there under a name that the site gives to another: place and name."""

API_PAGE = re.compile(r"api/(.+)\.md")
"""A page of the navigation that describes a module."""

_CODE = re.compile(r"^(```|~~~).*?^\1[ ]*$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?P<picture>!?)\[(?P<text>[^\[\]]*)\]\((?P<target>[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")


def on_files(files: "Files", config: "MkDocsConfig") -> "Files":
    """Add the pages that do not lie in `docs/`."""
    from mkdocs.structure.files import File

    files.remove(files.src_uris["README.md"])
    for place, name in ADDED.items():
        files.append(File.generated(config, name, abs_src_path=str(CHECKOUT / place)))
    for page in filter(None, map(API_PAGE.fullmatch, pages_of(config.nav))):
        files.append(File.generated(config, page[0], content=f"# {page[1]}\n\n::: {page[1]}\n"))
    return files


def on_page_markdown(markdown: str, page: "Page", config: "MkDocsConfig", files: "Files") -> str:
    """Turn the links of the repository into those of the site."""
    places = {name: place for place, name in ADDED.items()}
    names = {places.get(name, f"docs/{name}"): name for name in files.src_uris}
    here = page.file.src_uri
    return with_site_links(markdown, places.get(here, f"docs/{here}"), here, names)


def with_site_links(markdown: str, place: str, name: str, names: Mapping[str, str]) -> str:
    """Resolve the links of a page.

    Args:
        markdown: Its text.
        place: Its path in the repository.
        name: Its path in the site.
        names: Path in the site of everything that the site has, by path in the repository.

    Returns:
        The text with links of the site.
    """

    def resolved(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(place), link["target"]))
        if target in names:
            address = posixpath.relpath(names[target], posixpath.dirname(name) or ".")
            return f"{link['picture']}[{link['text']}]({address}{link['anchor'] or ''})"
        return link["text"] if (CHECKOUT / target).exists() else link[0]

    parts, end = [], 0
    for code in _CODE.finditer(markdown):
        parts += [_LINK.sub(resolved, markdown[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*parts, _LINK.sub(resolved, markdown[end:])])


def pages_of(nav: Any) -> Iterator[str]:
    """Yield every page of a navigation."""
    if isinstance(nav, str):
        yield nav
    else:
        for part in nav.values() if isinstance(nav, dict) else nav:
            yield from pages_of(part)
