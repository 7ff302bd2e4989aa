"""``status``: the overview on the console."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from dicom_node.commands.console import ConfigOption, out, settings_of

if TYPE_CHECKING:
    from dicom_node.config.settings import Settings
    from dicom_node.jobs.store import Store
    from dicom_node.overview.overview import Overview

AGAIN_S = 2.0


def status(
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Look again every two seconds.")] = False,
    today: Annotated[
        bool, typer.Option("--today", help="The figures and the jobs of today, and nothing else.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="JSON, one line for each look.")] = False,
    config: ConfigOption = None,
) -> None:
    """Show what is stuck and the command that mends it, workers, destinations, disk and today; status 1 on errors."""
    from dicom_node.errors import NotFoundError
    from dicom_node.jobs.store import Store
    from dicom_node.jobs.why import STATE_NAME

    settings = settings_of(config)
    path = settings.node.data / STATE_NAME
    if not path.exists():
        raise NotFoundError(f"{settings.node.data}: no node has worked here; give its --config")
    store = Store(path)
    try:
        while True:
            overview = _look(store, settings)
            if follow and out.is_terminal and not json:
                out.clear()
            _show(store, overview, today=today, json=json)
            if not follow:
                break
            time.sleep(AGAIN_S)
    finally:
        store.close()
    raise typer.Exit(1 if overview.errors else 0)


def _look(store: Store, settings: Settings) -> Overview:
    """Collect the overview beside the node, which says only what it alone knows."""
    from dicom_node.errors import NodeError, NotFoundError
    from dicom_node.jobs.known_workers import Workers
    from dicom_node.node.control_socket import ask
    from dicom_node.overview.collect import collect
    from dicom_node.spool.spool import Spool

    folder = settings.node.data
    is_running, troubles = True, []
    try:
        troubles = ask(folder, "troubles", "").splitlines()
    except NotFoundError:
        is_running = False
    except NodeError as error:
        troubles = [str(error)]
    spool = Spool(folder, settings.storage.high_water)
    workers = Workers.read(folder)
    return collect(store, spool, settings, workers, is_running=is_running, troubles=troubles, now=time.time())


def _show(store: Store, overview: Overview, *, today: bool, json: bool) -> None:
    from json import dumps

    from dicom_node.overview.collect import jobs_of_today
    from dicom_node.overview.overview import plain
    from dicom_node.overview.screen import screen
    from dicom_node.overview.screen import today as screen_of_today

    jobs = jobs_of_today(store, overview.at) if today else ()
    if json and today:
        typer.echo(dumps(plain({"today": overview.today, "jobs": jobs})))
    elif json:
        typer.echo(dumps(plain(overview)))
    else:
        for part in screen_of_today(overview, jobs) if today else screen(overview):
            out.print(part)
