"""The bus that the settings name. kafka-python is imported only where it is wanted."""

from pipeline.bus.port import Bus
from pipeline.settings import Kafka, Settings


def open_bus(settings: Settings) -> Bus:
    """Open it; BusError or SettingsError in one line where that cannot be."""
    if isinstance(settings.bus, Kafka):
        from pipeline.bus.kafka import KafkaBus  # noqa: PLC0415 - 0.2 s that the embedded bus does not need

        return KafkaBus(settings.bus)
    from pipeline.bus.embedded import EmbeddedBus  # noqa: PLC0415 - the same the other way round

    return EmbeddedBus(settings.bus.path)
