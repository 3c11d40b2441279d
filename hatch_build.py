"""The package's long description: the README without links into the repository, which lead nowhere elsewhere."""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

INTO_THE_REPOSITORY = r"\]\((?!https?:)[^)]*\)"
TEXT = r"((?:[^][]|\[[^][]*\])*)"  # may hold an interval, [-0.37, +23.11]


class Description(MetadataHookInterface):
    """Pictures of the repository are left out; of a link to one of its files the text stays."""

    def update(self, metadata: dict[str, Any]) -> None:
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        text = re.sub(rf"!\[{TEXT}{INTO_THE_REPOSITORY}\n\n", "", text)
        text = re.sub(rf"\[{TEXT}{INTO_THE_REPOSITORY}", r"\1", text)
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
