"""Every target of Prometheus exists, and every metric of our services on the dashboard exists."""

import json
import re
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from backend.metrics import Metrics as BackendMetrics
from inference.metrics import Metrics as InferenceMetrics
from scripts.local.config import REPOSITORY

FOLDER = REPOSITORY / "observability"
COMPOSE = yaml.safe_load((REPOSITORY / "compose.yaml").read_text())
PROMETHEUS = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
DASHBOARD = json.loads((FOLDER / "grafana/dashboards/service.json").read_text())
EXPRESSIONS = {
    f"{panel['title']}, {target['legendFormat']}": target["expr"]
    for panel in DASHBOARD["panels"]
    for target in panel["targets"]
}
OURS = re.compile(r"\b(?:backend|inference|process)_\w+")
SUFFIXES = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "info": ["_info"]}


def names(registry: CollectorRegistry) -> set[str]:
    """The names of all time series that the metrics of the registry can have."""
    return {
        family.name + suffix for family in registry.collect() for suffix in SUFFIXES.get(family.type, [""])
    }


@pytest.fixture(scope="module")
def known() -> set[str]:
    stand_in: Any = SimpleNamespace(
        unfinished=0, waiting=0, republished=0, open_streams=0, connections_in_use=0, held_bytes=0
    )
    registries = [BackendMetrics(*[stand_in] * 4).registry, InferenceMetrics().registry]
    return set[str]().union(*map(names, registries))


@pytest.mark.parametrize("title", EXPRESSIONS)
def test_every_metric_of_our_services_on_the_dashboard_exists(title: str, known: set[str]) -> None:
    found = set(OURS.findall(EXPRESSIONS[title]))
    assert found or EXPRESSIONS[title].startswith("sum(rabbitmq_")
    assert found <= known


@pytest.mark.parametrize("job", PROMETHEUS["scrape_configs"], ids=lambda job: job["job_name"])
def test_a_scrape_job_has_the_name_of_its_service(job: dict[str, Any]) -> None:
    hosts = [name for found in job.get("dns_sd_configs", []) for name in found["names"]]
    hosts += [target.split(":")[0] for found in job.get("static_configs", []) for target in found["targets"]]
    assert hosts == [job["job_name"]]
    assert job["job_name"] in COMPOSE["services"]


def test_the_worker_is_scraped_at_its_metrics_address() -> None:
    (job,) = [job for job in PROMETHEUS["scrape_configs"] if job["job_name"] == "inference"]
    address = COMPOSE["services"]["inference"]["environment"]["METRICS_ADDRESS"]
    assert address == f"0.0.0.0:{job['dns_sd_configs'][0]['port']}"


def test_the_dashboard_s_datasource_and_folder_are_provisioned() -> None:
    provisioning = FOLDER / "grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())["datasources"]
    assert {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]} == {source["uid"]}
    (provider,) = yaml.safe_load((provisioning / "dashboards/files.yml").read_text())["providers"]
    assert provider["options"]["path"] == "/etc/grafana/dashboards"  # compose.yaml mounts the folder there
