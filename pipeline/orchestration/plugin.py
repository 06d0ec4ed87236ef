"""What Warmstart adds to Airflow's pages: a link "Run page" on every stage, an entry "Runs" beside the DAGs, the pages.

Every Airflow process loads plugins. Only the API server asks for `fastapi_apps`, so only it builds the application.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from airflow.configuration import conf
from airflow.plugins_manager import AirflowPlugin
from airflow.sdk import BaseOperatorLink

from pipeline.orchestration.run_lifecycle import CloseRunOperator, OpenRunOperator
from pipeline.orchestration.stage import StageOperator
from pipeline.report.address import ROUTE, page_path
from pipeline.runs.folders import folder_name


class RunPageLink(BaseOperatorLink):
    """From a task to the page of its run."""

    name = "Run page"
    operators = [StageOperator, OpenRunOperator, CloseRunOperator]  # noqa: RUF012 (the base class declares it)

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Path on this server, so that it holds whatever name the reader reached the server by."""
        return _base_path() + page_path(folder_name(ti_key.run_id))


class WarmstartPlugin(AirflowPlugin):
    """Loaded from `plugins/`."""

    name = "warmstart"
    operator_extra_links = [RunPageLink()]  # noqa: RUF012

    @cached_property
    def external_views(self) -> list[dict[str, Any]]:  # type: ignore[override]
        # without a `url_route` it opens beside Airflow, not in a sandboxed frame, whose links would not carry the login
        return [{"name": "Runs", "href": f"{_base_path()}{ROUTE}/runs/", "destination": "nav"}]

    @cached_property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]
        from pipeline.orchestration.run_pages import create_app

        return [{"app": create_app(), "url_prefix": ROUTE, "name": "Warmstart runs"}]


def _base_path() -> str:
    return urlsplit(conf.get("api", "base_url", fallback="")).path.rstrip("/")
