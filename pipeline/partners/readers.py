"""The partners that have a read side: what each offers, and its reader made of its settings. A new one is a line in each table."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from pipeline.partners import njsams_reads
from pipeline.partners.searches import Search

if TYPE_CHECKING:
    from pipeline.partners.reads import Reader

OFFERED: Final[Mapping[str, Mapping[str, tuple[Search, ...]]]] = {"njsams": njsams_reads.RESOURCES}
"""By kind of partner: resources, and what each may be searched by."""
READERS: Final[Mapping[str, "Callable[[Any], Reader]"]] = {"njsams": njsams_reads.reader}
"""By kind of partner, of its settings."""


def options() -> dict[str, list[str]]:
    """Each search option of any partner, with the resources that have it."""
    found: dict[str, list[str]] = {}
    for resources in OFFERED.values():
        for resource, searches in resources.items():
            for search in searches:
                found.setdefault(search.option, []).append(resource)
    return found
