"""The dashboard and the alert rules: every expression can be parsed, and names what the node exports."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from dicom_node.overview.gauges import COUNTED_STATES, OverviewGauges
from dicom_node.overview.overview import (
    DestinationState,
    Disk,
    Overview,
    QueueState,
    Stage,
    Stuck,
    Today,
)
from dicom_node.worklog.events import EVENTS
from dicom_node.worklog.metrics import Metrics

FOLDER = Path(__file__).parents[2] / "deploy" / "monitoring"
RULES: list[dict[str, Any]] = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"][0]["rules"]
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "dashboard.json").read_text())
DURATION = re.compile(r"(\d+[smhd])+")
PROMETHEUS_OWN = {"up"}
VARIABLES = {"$__rate_interval": "5m", "$instance": "a"}
"""Of Grafana, which PromQL does not know."""


def overview() -> Overview:
    return Overview(
        at=100.0,
        version="0.2.0",
        ae_title="NODE",
        is_running=True,
        stuck=(Stuck("error", "no flair worker", "", 30.0, "", ""),),
        stages=(Stage("coming in", 0), Stage("waiting", 1, 30.0, "a")),
        queues=(
            QueueState("fatsat", 0, 0, None, 1),
            QueueState("flair", 1, 0, 30.0, 0, unserved_since=40.0),
        ),
        workers=(),
        destinations=(
            DestinationState("new", "A@b:1"),
            DestinationState(
                "pacs", "A@b:1", objects=3, jobs=1, oldest_at=20.0, last_success_at=90.0, reason="x"
            ),
        ),
        disk=Disk(1000, 400, 0.6, 0.9, series=5, inbox=0, quarantine=2),
        today=Today(0.0, 0, 0, {}, 0, 0),
        latest=(),
        series_held=4,
    )


@pytest.fixture(scope="module")
def exported() -> dict[str, set[str]]:
    """Labels of every sample that a node exports, by its name, as the node puts them together."""
    metrics = Metrics()
    for state in COUNTED_STATES:
        metrics.gauge(f"jobs_{state.replace('-', '_')}", "", lambda: 0)
    metrics.gauge("inbox_files", "", lambda: 0)
    metrics.register(OverviewGauges(overview))
    metrics._seconds.labels("stage", "mask").observe(1.0)
    return labels_of(read(metrics))


def read(metrics: Metrics) -> str:
    environ: dict[str, Any] = {"REQUEST_METHOD": "GET", "PATH_INFO": "/metrics", "wsgi.errors": io.StringIO()}
    return b"".join(metrics.app(environ, lambda status, headers, error=None: lambda data: None)).decode()


def labels_of(text: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def expressions() -> Iterator[tuple[str, str]]:
    for rule in RULES:
        yield rule["alert"], rule["expr"]
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


EXPRESSIONS = list(expressions())


@pytest.mark.parametrize(
    ("where", "text"), EXPRESSIONS, ids=[f"{name}-{n}" for n, (name, _) in enumerate(EXPRESSIONS)]
)
def test_expression_is_promql_and_names_metrics_labels_and_events_of_the_node(
    where: str, text: str, exported: dict[str, set[str]]
) -> None:
    for variable, value in VARIABLES.items():
        text = text.replace(variable, value)
    promql_parser.parse(text)
    names = set(re.findall(r"\b(dicom_node_\w+|up)\b", text))
    assert names
    assert names - PROMETHEUS_OWN <= exported.keys()
    known = set().union(*(exported[name] for name in names - PROMETHEUS_OWN)) | {"instance", "job"}
    used = set(re.findall(r"[{,](\w+)=", text))
    for listed in re.findall(r"\bby \(([^)]*)\)", text):
        used |= {label.strip() for label in listed.split(",")}
    assert used <= known
    for events in re.findall(r'event=~?"([^"]*)"', text):
        assert set(events.split("|")) <= EVENTS.keys()


def test_expression_that_is_no_promql_is_seen() -> None:
    for text in ("sum(", "rate(dicom_node_images_total)", "up{job=} == 0", "up >"):
        with pytest.raises(ValueError):
            promql_parser.parse(text)


def test_queued_without_a_worker_comes_first_and_fires_after_a_minute() -> None:
    assert RULES[0]["alert"] == "DicomNodeNoWorker"
    assert RULES[0]["expr"] == "dicom_node_queue_unserved_seconds > 60"


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_rule_has_the_form_that_prometheus_reads_and_names_a_command(
    rule: dict[str, Any], exported: dict[str, set[str]]
) -> None:
    assert rule.keys() <= {"alert", "expr", "for", "keep_firing_for", "labels", "annotations"}
    assert re.fullmatch(r"DicomNode[A-Za-z]+", rule["alert"])
    assert DURATION.fullmatch(rule.get("for", "1m"))
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"].keys() == {"summary", "description"}
    texts = " ".join(rule["annotations"].values())
    assert re.search(r"dicom-node (status|check|worker|retry|release|worklog)|systemctl|worker\.log", texts)
    known = {"instance", "job"}.union(
        *(exported.get(name, set()) for name in re.findall(r"\w+", rule["expr"]))
    )
    assert set(re.findall(r"\$labels\.(\w+)", texts)) <= known
    for placeholder in re.findall(r"\{\{(.*?)\}\}", texts):
        assert re.fullmatch(r" \$(value|labels\.\w+)( \| humanize(Duration|Percentage)?)? ", placeholder)


def test_rules_are_named_once_and_speak_of_all_that_the_admin_must_know() -> None:
    names = [rule["alert"] for rule in RULES]
    assert len(set(names)) == len(names)
    text = " ".join(rule["expr"] for rule in RULES)
    for metric in (
        "unserved",
        "undelivered",
        "held",
        "oldest_age",
        "disk",
        "association-refused",
        '"failed"',
    ):
        assert metric in text


def test_dashboard_has_panels_that_do_not_overlap_and_a_choice_of_nodes() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert DASHBOARD["panels"][0]["title"] == "Waits without a worker"
    assert [one["name"] for one in DASHBOARD["templating"]["list"]] == ["datasource", "instance"]


def test_numbers_are_those_of_the_overview() -> None:
    metrics = Metrics()
    metrics.register(OverviewGauges(overview))
    text = read(metrics)
    for line in (
        'dicom_node_build_info{version="0.2.0"} 1.0',
        'dicom_node_stuck{level="error"} 1.0',
        "dicom_node_series_held 4.0",
        'dicom_node_oldest_age_seconds{stage="coming_in"} 0.0',
        'dicom_node_oldest_age_seconds{stage="waiting"} 70.0',
        'dicom_node_queue_unserved_seconds{queue="fatsat"} 0.0',
        'dicom_node_queue_unserved_seconds{queue="flair"} 60.0',
        'dicom_node_workers{queue="fatsat"} 1.0',
        'dicom_node_destination_waiting_objects{destination="pacs"} 3.0',
        'dicom_node_destination_oldest_age_seconds{destination="pacs"} 80.0',
        'dicom_node_destination_last_success_timestamp_seconds{destination="pacs"} 90.0',
        "dicom_node_disk_free_bytes 400.0",
        "dicom_node_disk_used_ratio 0.6",
        "dicom_node_quarantine_files 2.0",
    ):
        assert f"{line}\n" in text
    assert 'last_success_timestamp_seconds{destination="new"}' not in text


def test_every_metric_stands_in_the_manual(exported: dict[str, set[str]]) -> None:
    manual = (FOLDER.parent / "OPERATIONS.md").read_text()
    for name in exported:
        base = re.sub(r"_(bucket|sum|count|created)$", "", name)
        named = base in manual or (
            base.startswith("dicom_node_jobs_") and f"_{base.removeprefix('dicom_node_jobs_')}`" in manual
        )
        assert named, name
