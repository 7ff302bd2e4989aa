"""A decision with every rule and every condition, for ``dicom-node route``."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dicom_node.routing.match import Check, Decision, Trial

YES, NO, OTHER = "yes", "NO", "-"
"""Verdicts: met; not met; not met, but another condition of the same group is."""


def explain(decision: Decision) -> RenderableType:
    """Return a rich renderable: the reason, then a table for each rule that was tried."""
    style = "green" if decision.pipeline else "yellow"
    parts: list[RenderableType] = [Text(_headline(decision), style=f"bold {style}")]
    parts += [_table(trial) for trial in decision.trials]
    return Group(*parts)


def _headline(decision: Decision) -> str:
    return f"{decision.pipeline or 'no pipeline'}: {decision.reason}"


def _title(trial: Trial) -> str:
    return f"rule {trial.rule} -> {trial.pipeline}: {'applies' if trial.matched else 'does not apply'}"


def _table(trial: Trial) -> Table:
    style = "green" if trial.matched else ""
    table = Table(title=Text(_title(trial), style=style), title_justify="left", expand=False)
    for heading in ("section", "key", "value", "wanted", "verdict"):
        table.add_column(heading, overflow="fold")
    for check in trial.checks:
        verdict = _verdict(trial, check)
        colour = {YES: "green", NO: "red", OTHER: "dim"}[verdict]
        cells = (check.section, check.key, _value(check), _wanted(check))
        table.add_row(*(Text(cell) for cell in cells), Text(verdict, style=colour))
    return table


def _value(check: Check) -> str:
    if 0 < check.against < check.images:
        return f"{check.value} (on {check.against} of {check.images} images)"
    return check.value


def _wanted(check: Check) -> str:
    return f"{check.wanted} (found: {check.excluded})" if check.excluded else check.wanted


def _verdict(trial: Trial, check: Check) -> str:
    if check.met:
        return YES
    group = [other for other in trial.checks if other.section == check.section]
    return OTHER if check.section.startswith("any.") and any(other.met for other in group) else NO
