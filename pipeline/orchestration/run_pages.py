"""The pages of all runs, served by Airflow's API server to whoever may see the runs of the DAG there. Read-only.

A closed run's page comes from its record; an open run is drawn as it stands. Airflow mounts a plugin's application
beside its own and protects it with nothing: every route here asks Airflow's auth manager itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import bearer_scheme, get_user
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.security import HTTPAuthorizationCredentials

from pipeline.orchestration.location import home
from pipeline.report.listing import render_listing
from pipeline.report.page import PAGE, POLICY, render_page
from pipeline.runs.folders import folder_name

DAG = "retrain"
HEADERS = {
    # reports hold names and example rows of the data: nothing in them may run, be framed elsewhere or stay in a cache
    "Content-Security-Policy": f"{POLICY}; frame-ancestors 'self'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(bearer_scheme)]


async def may_read(request: Request, bearer: Bearer) -> None:
    """Let those pass who may see the DAG's runs in Airflow; a browser without a login is sent to it.

    Raises:
        HTTPException: 303 to the login, 401, or 403.
    """
    try:
        user = await get_user(request, None, bearer)
    except HTTPException as fault:
        if fault.status_code == 401 and "text/html" in request.headers.get("accept", ""):
            login = get_auth_manager().get_url_login(next_url=str(request.url))
            raise HTTPException(303, headers={"Location": login}) from None
        raise
    details = DagDetails(id=DAG)
    if not get_auth_manager().is_authorized_dag(
        method="GET", access_entity=DagAccessEntity.RUN, details=details, user=user
    ):
        raise HTTPException(403, f"you may not see the runs of the DAG {DAG}")


def create_app() -> FastAPI:
    """The application that Airflow mounts under `pipeline.report.address.ROUTE`."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, dependencies=[Depends(may_read)])

    @app.get("/")
    def index(request: Request) -> Response:
        return RedirectResponse(f"{request.scope.get('root_path', '')}/runs/")

    @app.get("/runs/")
    def runs() -> Response:
        return HTMLResponse(render_listing(home()), headers=HEADERS)

    @app.get("/runs/{run}/{path:path}")
    def page(run: str, path: str) -> Response:
        if path in ("", PAGE):
            return HTMLResponse(_page(run), headers=HEADERS)
        return HTMLResponse(_report(run, path).read_text("utf-8"), headers=HEADERS)

    return app


def _page(run: str) -> str:
    record, workspace = _folders(run)
    kept = record / PAGE
    open_again = _changed(workspace / "run") > (kept.stat().st_mtime if kept.is_file() else 0.0)
    if kept.is_file() and not open_again:
        return kept.read_text("utf-8")
    folder = workspace if (workspace / "run.yaml").is_file() else record
    if not folder.is_dir():
        raise HTTPException(404, f"there is no run {run}; /runs/ lists those there are")
    return render_page(folder)


def _report(run: str, path: str) -> Path:
    """An HTML file of the run's folder.

    Raises:
        HTTPException: 404 for everything else: another kind of file, hidden files, and whatever lies elsewhere, by
            name or by a link.
    """
    for folder in _folders(run):
        if "\0" in path:
            break
        found = (folder / path).resolve()
        inside = found.is_relative_to(folder.resolve()) and not any(part.startswith(".") for part in Path(path).parts)
        if inside and found.suffix == ".html" and found.is_file():
            return found
    raise HTTPException(404, f"run {run} has no report {path}")


def _folders(run: str) -> tuple[Path, Path]:
    if run != folder_name(run) or run.startswith("."):
        raise HTTPException(404, "a run is named by letters, digits, - _ and .")
    return home() / "records" / run, home() / "runs" / run


def _changed(folder: Path) -> float:
    """When an attempt at a stage last said something there; 0 if never."""
    return max((path.stat().st_mtime for path in folder.rglob("[!.]*.json")), default=0.0)
