"""The partners that have a read side: what each offers, and its reader made of its settings. A new one is a line in each table."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from pipeline.partners.medmij import reads as medmij_reads
from pipeline.partners.njsams import reads as njsams_reads
from pipeline.partners.roqua import reads as roqua_reads
from pipeline.partners.searches import Search

if TYPE_CHECKING:
    from pipeline.partners.reads import Reader

OFFERED: Final[Mapping[str, Mapping[str, tuple[Search, ...]]]] = {
    "medmij-xis": medmij_reads.RESOURCES,
    "njsams": njsams_reads.RESOURCES,
    "roqua": roqua_reads.RESOURCES,
    "roqua-responses": roqua_reads.RESOURCES,
}
"""By kind of partner: resources, and what each may be searched by."""


def _medmij(settings: Any) -> "Reader":  # noqa: ANN401 - the settings block
    from pipeline.partners.medmij.reader import MedmijReader  # noqa: PLC0415 - 0.2 s that `fetch --help` does not need

    return MedmijReader.of(settings)


def _roqua(settings: Any) -> "Reader":  # noqa: ANN401 - the settings block of either kind
    from pipeline.partners.roqua.reader import RoquaReader  # noqa: PLC0415 - as above

    return RoquaReader.of(settings)


READERS: Final[Mapping[str, "Callable[[Any], Reader]"]] = {
    "medmij-xis": _medmij,
    "njsams": njsams_reads.reader,
    "roqua": _roqua,
    "roqua-responses": _roqua,
}
"""By kind of partner, of its settings."""


def options() -> dict[str, tuple[str, list[str]]]:
    """Each search option of any partner, in the order of the tables: what it is kept as, and the resources that have it."""
    found: dict[str, tuple[str, list[str]]] = {}
    offered = ((resource, search) for of in OFFERED.values() for resource, all_ in of.items() for search in all_)
    for resource, search in dict.fromkeys(offered):
        found.setdefault(search.option, (search.name, []))[1].append(resource)
    return {option: (name, sorted(set(resources))) for option, (name, resources) in found.items()}
