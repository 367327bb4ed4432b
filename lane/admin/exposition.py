"""Numbers as Prometheus reads them: its text format, by prometheus-client."""

from collections.abc import Iterator, Mapping
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from lane.admin.families import Family
from lane.admin.state import State

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class _Once(Collector):
    """Gives out the metrics of one scrape."""

    def __init__(self, state: State, families: Mapping[str, Family]) -> None:
        self._state = state
        self._families = families

    def collect(self) -> Iterator[Metric]:
        for name, family in self._families.items():
            if family.kind == "histogram":
                yield self._histogram(name, family)
                continue
            kind, values = (
                (CounterMetricFamily, self._state.counters)
                if family.kind == "counter"
                else (GaugeMetricFamily, self._state.gauges)
            )
            metric = kind(name, family.help, labels=family.labels)
            for labels, value in values.get(name, {}).items():
                metric.add_metric(labels, value)
            yield metric

    def _histogram(self, name: str, family: Family) -> HistogramMetricFamily:
        metric = HistogramMetricFamily(name, family.help, labels=family.labels)
        bounds = [*map(str, family.bounds), "+Inf"]
        for labels, (*counts, total) in self._state.histograms.get(name, {}).items():
            metric.add_metric(labels, [*zip(bounds, accumulate(counts), strict=True)], total)
        return metric


def render(state: State, families: Mapping[str, Family]) -> bytes:
    """The values of `families` as text, with HELP and TYPE of each."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Once(state, families))
    return bytes(generate_latest(registry))
