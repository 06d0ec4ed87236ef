"""What Prometheus sees of the service, at `/metrics`."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.001, 0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 1.0)


class Metrics:
    """The metrics of one service. A registry of its own: two services in one process (tests) do not collide."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "warmstart_requests",
            "Answers by route, target and status",
            ["route", "target", "status"],
            registry=registry,
        )
        self.seconds = Histogram(
            "warmstart_request_seconds", "From the first byte to the answer", ["route"], buckets=SECONDS,
            registry=registry,
        )  # fmt: skip
        self.answers = Counter(
            "warmstart_recommendations", "Where answers came from: model, profile, popularity", ["target", "source"],
            registry=registry,
        )  # fmt: skip
        self.degraded = Counter(
            "warmstart_degraded", "Answers from what is in memory: what was away", ["what"], registry=registry
        )
        self.batch = Histogram(
            "warmstart_batch_requests", "Requests that shared one call of the model", ["target"],
            buckets=(1, 2, 4, 8, 16, 32, 64), registry=registry,
        )  # fmt: skip
        self.users = Counter(
            "warmstart_user_lookups", "Users by where they were found: memory, store", ["where"], registry=registry
        )
        self.events = Counter(
            "warmstart_feedback_events", "Events that are on the disk", ["target", "event"], registry=registry
        )
        self.loads = Counter(
            "warmstart_champion_loads", "Champions loaded, or refused", ["target", "outcome"], registry=registry
        )
        self.version = Gauge("warmstart_champion_version", "The version that answers", ["target"], registry=registry)
        self.stale = Gauge(
            "warmstart_champion_refused", "1 while the champion by the log is not what answers", ["target"],
            registry=registry,
        )  # fmt: skip
        self.items = Gauge("warmstart_items", "Items that can be recommended", ["target"], registry=registry)
        self.away = Gauge("warmstart_away", "1 while a server is away", ["what"], registry=registry)

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self.registry)
