"""The summary of a run: what its report says beside the timeline, as plain data.

`summarise` makes it of what was taken down; it goes into the trace as JSON. The report
(`mpitasks.observe.report`) and the verdict read it, perhaps years later and on another
machine, so names of fields stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpitasks.observe.accounts import RunStatistics
    from mpitasks.observe.failures import Failures
    from mpitasks.observe.recording import Recording
    from mpitasks.observe.slices import Durations

__all__ = ["summarise"]

MOST_LABELS = 200


def summarise(
    recording: Recording,
    statistics: RunStatistics,
    failures: Failures,
    *,
    waited: float,
    facts: dict[str, Any],
) -> dict[str, Any]:
    """Return the summary.

    Args:
        recording: What happened.
        statistics: The statistics at the end.
        failures: What failed.
        waited: Seconds that the script has waited for room for large arguments.
        facts: What is known of the run besides: script, hosts, versions, exit code.
    """
    workers = recording.workers
    held = busy = 0.0
    for worker in workers.values():
        held += worker.held
        busy += worker.busy
        if worker.batches:
            held += recording.end - worker.assigned
    idle = recording.idleness.totals()
    labels, links = statistics.labels, statistics.links
    durations = recording.durations.copy()
    longest = sorted(durations, key=lambda name: -durations[name].seconds)
    samples = recording.samples
    span = samples[-1].time - samples[0].time if samples else 0.0
    cpu = samples[-1].cpu - samples[0].cpu if samples else 0.0
    slices = sum(len(worker.slices) for worker in workers.values())
    return {
        **facts,
        "seconds": recording.end - recording.start,
        "workers": len(workers),
        "busy": busy,
        "held": held,
        "loading": sum(link.loading for link in links.values()),
        "copying": sum(link.copying for link in links.values()),
        "idle": idle,
        "tasks": sum(each.count for each in durations.values()),
        "succeeded": statistics.succeeded,
        "failed": statistics.failed,
        "cancelled": statistics.cancelled,
        "unfinished": statistics.queued + statistics.running,
        "retries": recording.retries,
        "retried_seconds": sum(
            each.retries * durations[name].seconds / durations[name].count
            for name, each in labels.items()
            if name in durations
        ),
        "messages": recording.messages,
        "sent": sum(link.sent + link.shared for link in links.values()),
        "received": sum(link.received for link in links.values()),
        "near": sum(link.near for link in links.values()),
        "far": sum(link.far for link in links.values()),
        "kept": [
            [host, statistics.kept.get(host, 0), most]
            for host, most in statistics.most_kept.items()
        ],
        "waited": waited,
        "load": cpu / span if span > 0 else 0.0,
        "links": [
            [
                rank,
                link.host,
                link.sent,
                link.received,
                link.tasks,
                link.near,
                link.far,
                link.shared,
            ]
            for rank, link in links.items()
        ],
        "labels": [
            _label(name, durations[name], labels.get(name))
            for name in longest[:MOST_LABELS]
        ],
        "slowest": [
            [slow.seconds, slow.label, slow.name, slow.rank, slow.begin, slow.arguments]
            for slow in recording.slowest()
        ],
        "failures": [
            [
                kind,
                failures.counts.get(kind, 0),
                failures.retried.get(kind, 0),
                *failures.first.get(kind, ("", "")),
            ]
            for kind in {**failures.counts, **failures.retried}
        ],
        "shown": {
            "slices": [slices, recording.joined],
            "labels": [min(len(longest), MOST_LABELS), len(longest)],
            "instants": [len(recording.instants), recording.happened],
            "arrows": [len(recording.arrows), recording.passed],
        },
    }


def _label(name: str, durations: Durations, told: Any) -> dict[str, Any]:
    return {
        "label": name,
        "count": durations.count,
        "seconds": durations.seconds,
        "median": durations.quantile(0.5),
        "p95": durations.quantile(0.95),
        "longest": durations.longest,
        "bins": sorted(durations.bins.items()),
        "failed": 0 if told is None else told.failed,
        "retries": 0 if told is None else told.retries,
    }
