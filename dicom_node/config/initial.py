"""The first configuration of a node: what it needs to know, and by comments what else there is."""

from __future__ import annotations

import json

_NODE = """\
# A configuration of dicom-node. Every key has a default: a line that begins with "# key =" shows it.
# All keys and what they do: deploy/example.toml and deploy/OPERATIONS.md. "dicom-node check --config FILE" looks at it.

[node]
{ae_title:<27} # who the node is: the PACS must know this title, this host and the port
{port}
{data:<27} # images, results, worklog; relative to this file. Only the node's user may enter it
# host = "0.0.0.0"          # which of this machine's addresses it listens on
# metrics_port = 0          # 9112: /metrics and /healthz for a monitoring system; 0: off

[accept]
{callers}
# require_called_ae = true  # who calls must know our title

[series]
# quiet_s = 3.0             # so long must nothing come before a series counts as whole
# incomplete = "hold"       # a series with a gap waits for a person; "analyse": it is analysed and marked

[storage]
# keep_days = 14            # what is delivered or ignored is removed after so many days; 0: never
# high_water = 0.90         # a disk fuller than this makes the node refuse images

[worker]
# device = "auto"           # the first GPU, else the CPU; "cuda:0", "cpu"

[results]
# when_unsuitable = "report"  # a series that can't be analysed gets a report; "silent": a line in the worklog
# differential = "text"     # MS versus NMOSD; "off": not at all

"""

_PACS = """\
[[destination]]
name = "pacs"               # how the worklog calls it
{ae_title}
{host}
{port}
# objects = ["summary", "outline", "seg", "sr", "text-sr", "heatmap"]
# confirm = "c-find"        # ask whether it holds what it took; "commitment"; "none": for a PACS that can do neither
# tls = {{ ca = "pacs-ca.pem" }}   # only for a PACS that speaks TLS
"""

_NO_PACS = """\
# Where results go. Without one they stay in the data folder.
# [[destination]]
# name = "pacs"
# ae_title = "PACS1"
# host = "pacs.example.org"
# port = 104
"""

_CALLERS = """\
# Who may send; empty: anyone. With an address, from there alone:
# callers = [{ ae_title = "PACS1", address = "10.1.0.0/16" }, { ae_title = "MR1" }]
"""


def initial_configuration(title: str, port: int, data: str, pacs: tuple[str, str, int] | None) -> str:
    """Return the text of a configuration.

    Parameters
    ----------
    title, port, data
        Of the node.
    pacs : tuple of AE title, host and port, optional
        It gets the results, and is the only one that may send.
    """
    callers = _CALLERS
    if pacs is not None:
        callers += f"callers = [{{ ae_title = {_quoted(pacs[0])} }}]"
    node = _NODE.format(**_lines(ae_title=title, port=port, data=data), callers=callers.rstrip())
    if pacs is None:
        return node + _NO_PACS
    return node + _PACS.format(**_lines(ae_title=pacs[0], host=pacs[1], port=pacs[2]))


def _lines(**values: str | int) -> dict[str, str]:
    """Return ``key = value`` for each."""
    return {
        key: f"{key} = {_quoted(value) if isinstance(value, str) else value}" for key, value in values.items()
    }


def _quoted(text: str) -> str:
    """Return a basic string of TOML: what JSON escapes, it does as well."""
    return json.dumps(text, ensure_ascii=False)
