"""Looks through a built site: `python docs/site/check_pages.py out/site`.  One line for each fault, and exit code 1."""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src"}  # by the browser, unasked


class Page(HTMLParser):
    """What a page has: its faults by itself, its ids, and where its links and pictures lead."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.faults: list[str] = []
        self.ids: set[str] = set()
        self.targets: list[str] = []
        self.language = ""
        self.fits_a_phone = False
        self.feed(path.read_text())
        if not self.language:
            self.faults.append("its <html> names no language")
        if not self.fits_a_phone:
            self.faults.append('it has no <meta name="viewport">, so a phone shows it too small to read')

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        a = {name: value or "" for name, value in attributes}
        self.ids.add(a.get("id", ""))
        if tag == "html":
            self.language = a.get("lang", "")
        self.fits_a_phone |= tag == "meta" and a.get("name") == "viewport"
        if tag == "img" and a.get("alt", "").strip() in ("", unquote(a.get("src", "")), a.get("src", "")):
            self.faults.append(f"the picture {a.get('src')} has no alt text")
        loaded = a.get(LOADED.get(tag, ""), "")
        if urlsplit(loaded).netloc:
            self.faults.append(f"{loaded} is loaded over the network")
        self.targets += [target for target in (loaded, a.get("href", "") if tag == "a" else "") if target]


def faults(site: Path) -> list[str]:
    """One sentence for each fault of the pages in `site`: pictures, languages, the network, links that lead nowhere."""
    pages = {path.resolve(): Page(path) for path in sorted(site.rglob("*.html"))}
    found = [] if pages else [f"{site}: there are no pages"]
    for path, page in pages.items():
        name = path.relative_to(site.resolve())
        found += [f"{name}: {fault}" for fault in page.faults]
        for target in page.targets:
            url = urlsplit(target)
            if url.scheme or url.netloc:
                continue
            goal = (path.parent / unquote(url.path)).resolve() if url.path else path
            if not goal.exists():
                found.append(f"{name}: {target} leads nowhere")
            elif url.fragment and goal in pages and unquote(url.fragment) not in pages[goal].ids:
                found.append(f"{name}: {target} leads to no such place in that page")
    return found


if __name__ == "__main__":
    site = Path(sys.argv[1])
    wrong = faults(site)
    print("\n".join(wrong) or f"{site}: every picture has a description, every link leads somewhere")
    sys.exit(bool(wrong))
