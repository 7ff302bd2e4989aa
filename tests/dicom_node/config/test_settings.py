import contextlib
import math
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from dicom_node.commands.console import settings_of
from dicom_node.config.hosts import fault_of_host
from dicom_node.config.schema import is_list, model_of
from dicom_node.config.settings import Settings, load_settings
from dicom_node.errors import ConfigError
from pipelines.fatsat.settings import default_settings as fatsat_defaults
from pipelines.flair.settings import default_settings
from pipelines.types import PipelineInfo

PACS = "[[destination]]\nname = 'pacs'\nae_title = 'A'\nhost = 'h'\nport = 1\n"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "node.toml"
    path.write_text(text)
    return path


def test_defaults_are_those_of_the_documentation() -> None:
    settings = load_settings()
    assert settings.node.ae_title == "LESIONNODE"
    assert settings.node.port == 11112
    assert settings.series.quiet_s == 3.0
    assert settings.broker.url == "embedded"
    assert settings.storage.high_water == 0.90
    assert settings.destination == ()


def test_file_sets_every_kind_of_value(tmp_path: Path) -> None:
    settings = load_settings(
        write(
            tmp_path,
            """
            [node]
            ae_title = "BRAIN"
            data = "here"
            [accept]
            callers = [{ ae_title = "PACS1", address = "10.1.0.0/16" }]
            [[destination]]
            name = "pacs"
            ae_title = "ORTHANC"
            host = "127.0.0.1"
            port = 4242
            objects = ["seg", "sr"]
            """,
        )
    )
    assert settings.node.data == tmp_path / "here"
    assert settings.accept.callers[0].address == "10.1.0.0/16"
    assert settings.destination[0].objects == ("seg", "sr")
    assert settings.destination[0].confirm == "c-find"


def test_files_of_tls_lie_beside_the_configuration(tmp_path: Path) -> None:
    settings = load_settings(
        write(
            tmp_path,
            """
            [broker]
            url = "rediss://:s3cret@broker.example.org:6380/1"
            tls = { ca = "tls/ca 1.pem", certificate = "/c.pem", key = "/k.pem" }
            [[destination]]
            name = "pacs"
            ae_title = "ORTHANC"
            host = "127.0.0.1"
            port = 4242
            tls = { ca = "tls/pacs.pem", name = "pacs.example.org" }
            """,
        )
    )
    tls = settings.destination[0].tls
    assert tls is not None
    assert (tls.ca, tls.certificate, tls.name) == (tmp_path / "tls" / "pacs.pem", None, "pacs.example.org")
    url, _, query = settings.broker.address.partition("?")
    assert url == "rediss://:s3cret@broker.example.org:6380/1"
    assert parse_qs(query) == {
        "ssl_cert_reqs": ["required"],
        "ssl_check_hostname": ["true"],
        "ssl_ca_certs": [str(tmp_path / "tls" / "ca 1.pem")],
        "ssl_certfile": ["/c.pem"],
        "ssl_keyfile": ["/k.pem"],
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '[broker]\nurl = "redis://:s3cret@h:6379/0"\ntls = { ca = "a" }',
            "tls needs a url that begins with rediss",
        ),
        ('[broker]\nurl = "rediss://:s3cret@h:99999/0"', "the port is no number"),
        ('[broker]\nurl = "http://u:s3cret@h:1/0"', '"embedded", redis://'),
        ('[broker]\nurl = "rediss://:s3cret@h:1/0?ssl_cert_reqs=none"', "no \\?options"),
        ('[broker]\ntls = { key = "a" }', "a key without its certificate"),
        ('[broker]\ntls = { keys = "a" }', "unknown key .*keys"),
    ],
)
def test_broker_that_can_not_be_meant_is_told_without_its_password(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_settings(write(tmp_path, text))
    assert "s3cret" not in str(caught.value)


def test_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DICOM_NODE__NODE__PORT", "4711")
    monkeypatch.setenv("DICOM_NODE__ACCEPT__REQUIRE_CALLED_AE", "false")
    settings = load_settings(write(tmp_path, "[node]\nport = 1\nae_title = 'A'\n"))
    assert settings.node.port == 4711
    assert settings.node.ae_title == "A"
    assert settings.accept.require_called_ae is False


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[node]\nprot = 1\n", r"unknown key \[node\] prot; allowed: ae_title, host, port"),
        ("[nod]\nport = 1\n", r"unknown key \[nod\]; allowed: node, accept"),
        ("[node]\nport = 99999\n", r"\[node\] port = 99999: .*65535"),
        ("[series]\nincomplete = 'drop'\n", r"\[series\] incomplete = 'drop': allowed: 'hold' or 'analyse'"),
        ("[broker]\nurl = 'amqp://x'\n", r"\[broker\] url = 'amqp://x': \"embedded\", redis://"),
        (
            "[accept]\ncallers = [{ ae_title = 'A', address = 'ten' }]\n",
            r"\[accept\] callers 'A' address = 'ten': an IP address",
        ),
        (
            "[accept]\nmax_object_mb = 0\n",
            r"\[accept\] max_object_mb = 0: a number, above 0, at most 1000000",
        ),
        ("[accept]\nidle_timeout_s = -1\n", r"\[accept\] idle_timeout_s = -1: "),
        ("[accept]\nprocesses = 65\n", r"\[accept\] processes = 65: "),
        ("[accept]\nmax_per_caller = -1\n", r"\[accept\] max_per_caller = -1: "),
        ("[accept]\ntls = { key = 'k.pem' }\n", r"\[accept\] tls.certificate is missing"),
        ("[[destination]]\nname = 'a'\n", r"\[\[destination\]\] 'a' ae_title is missing"),
        ("node = 5\n", r"\[node\] = 5: a table, with a line for each key below it"),
        (
            "[destination]\nname = 'a'\n",
            r"\[\[destination\]\]: tables, each below a line \[\[destination\]\]",
        ),
        ("[accept]\ncallers = 'A'\n", r"\[accept\] callers = 'A': a list, in brackets"),
        ("[node]\nae_title = 'KLINIK ÄRZTE'\n", r"\[node\] ae_title = 'KLINIK ÄRZTE': .*DICOM forbids"),
        ("[node\n", "not valid TOML"),
        ("[node]\nport = true\n", r"\[node\] port = true: a whole number from 0 to 65535"),
        ("[series]\nquiet_s = false\n", r"\[series\] quiet_s = false: a number from 0 to 3600"),
        ("[series]\nincomplete = true\n", r"\[series\] incomplete = true: allowed: 'hold' or 'analyse'"),
        (
            "[accept]\nmax_per_caller = true\n",
            r"\[accept\] max_per_caller = true: a whole number from 0 to 1000",
        ),
        ("[storage]\nkeep_days = inf\n", r"\[storage\] keep_days = inf: a number, at least 0"),
        ("[node]\ndata = ''\n", r"\[node\] data = '': empty: give a path"),
        ("[node]\ndata = ' '\n", r"\[node\] data = ' ': empty: give a path"),
        ("[accept]\ntls = { certificate = '' }\n", r"\[accept\] tls.certificate = '': empty: give a path"),
        ("[node]\nhost = '999.1.1.1'\n", r"\[node\] host = '999.1.1.1': no IP address: it has four numbers"),
        ("[node]\nmetrics_host = '10.1'\n", r"\[node\] metrics_host = '10.1': no IP address"),
        (
            PACS.replace("'h'", "'127.0.0.1:104'"),
            r"\[\[destination\]\] 'pacs' host = '127.0.0.1:104': the port does not belong to the host",
        ),
        (
            PACS + PACS.replace("pacs", "two").replace("port = 1", "port = 0"),
            r"\[\[destination\]\] 'two' port = 0: a whole number from 1 to 65535",
        ),
        (PACS + "[[destination]]\nport = 1\n", r"\[\[destination\]\] number 2 name is missing"),
        (
            PACS + "objects = ['seg', 'pdf']\n",
            r"\[\[destination\]\] 'pacs' objects = 'pdf': allowed: 'summary'",
        ),
        (PACS.replace("pacs", "a b"), r"\[\[destination\]\] 'a b' name = 'a b': a name of letters, digits"),
        ("[accept]\ncallers = [{ address = 'x' }]\n", r"\[accept\] callers number 1 ae_title is missing"),
        ("[[route]]\npipeline = 'flair'\n", r"\[\[route\]\] number 1: rule without a name: name is missing"),
        (
            "[[route]]\nname = 'x'\npipeline = 'flair'\nall.EchoTime.min = true\n",
            r": \[\[route\]\]: rule 'x': all.EchoTime.min: a number, not true or false",
        ),
    ],
)
def test_mistake_is_named_with_what_is_allowed(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named) as caught:
        load_settings(write(tmp_path, text))
    assert "\n" not in str(caught.value)


WRONG = (True, "?", "", 5, -7, 1e300, math.nan, ["?"], {"?": 1}, [5], None)


@pytest.mark.parametrize("section", Settings.model_fields)
def test_no_value_is_answered_in_the_words_of_a_library(
    section: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def load(value: object) -> None:
        with contextlib.suppress(ConfigError):
            try:
                load_settings(overrides={section: value})
            except ConfigError as error:
                said.append(str(error))
                raise

    field = Settings.model_fields[section]
    model = model_of([section], Settings)
    assert model is not None
    for wrong in WRONG:
        load(wrong)
        for key in model.model_fields:
            load([{key: wrong}] if is_list(field.annotation) else {key: wrong})
    assert said
    for line in said:
        assert not re.search("input|pydantic|valid |should|class|Unable|unable|parse", line), line
        assert "\n" not in line


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("NODE__PORT", "abc", "[node] port = 'abc': a whole number from 0 to 65535"),
        ("NODE__PORT", "", "[node] port = '': a whole number from 0 to 65535"),
        ("NODE", "abc", "a list or a table is written as JSON there, and this is none"),
        ("NODE", '{"port": "x"}', "[node] port = 'x': a whole number from 0 to 65535"),
        ("ACCEPT__CALLERS", "PACS1", "a list or a table is written as JSON there, and this is none"),
        (
            "ACCEPT__CALLERS",
            '[{"ae_title": "P", "address": "x"}]',
            "[accept] callers 'P' address = 'x': an IP address or network such as 10.1.2.3 or 10.1.0.0/16",
        ),
        (
            "DESTINATION__0__PORT",
            "1",
            "nothing stands below DICOM_NODE__DESTINATION; a list is written there as JSON",
        ),
        (
            "NODE__DATA__X",
            "1",
            "nothing stands below DICOM_NODE__NODE__DATA; a list is written there as JSON",
        ),
        ("NODE__DATA", "", "[node] data = '': empty: give a path, or leave the key out"),
    ],
)
def test_wrong_value_of_the_environment_names_its_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(f"DICOM_NODE__{variable}", value)
    with pytest.raises(ConfigError) as caught:
        load_settings(write(tmp_path, "[node]\nport = 5\n"))
    assert str(caught.value) == f"environment DICOM_NODE__{variable}: {said}"


def test_byte_order_mark_of_an_editor_is_no_matter(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_bytes("\ufeff[node]\nport = 4711\n".encode())
    assert load_settings(path).node.port == 4711
    path.write_bytes("[node]\nport = 4711\n".encode("utf-16"))
    with pytest.raises(ConfigError, match=r"node.toml: not text in UTF-8: save it so"):
        load_settings(path)


def test_route_to_a_pipeline_that_there_is_none_of(tmp_path: Path) -> None:
    rule = "[[route]]\nname = 'mine'\npipeline = 'flare'\nall.EchoTime.min = 70\n"
    path = write(tmp_path, rule)
    with pytest.raises(
        ConfigError, match=re.escape("rule 'mine': pipeline = 'flare': there is none; allowed: flair, fatsat")
    ):
        settings_of(path)
    assert settings_of(write(tmp_path, rule.replace("flare", "fatsat"))).route[0].pipeline == "fatsat"


@pytest.mark.parametrize(
    "host",
    [
        "pacs",
        "pacs.example.org",
        "pacs.example.org.",
        "10.1.2.3",
        "::1",
        "fe80::1%eth0",
        "a_b-c",
        "bücher.example",
    ],
)
def test_host_that_may_be_one(host: str) -> None:
    assert fault_of_host(host) == ""


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("", "empty"),
        ("10.1.2.256", "four numbers"),
        ("104", "four numbers"),
        ("pacs:104", "the port does not belong"),
        ("[::1]:104", "the port does not belong"),
        ("[::1]", "without brackets"),
        ("::g", "no IPv6 address"),
        ("http://pacs", "alone"),
        ("A@pacs", "alone"),
        ("two words", "no host name"),
        ("a..b", "no host name"),
        ("a" * 64, "no host name"),
    ],
)
def test_host_that_is_none(host: str, said: str) -> None:
    assert said in fault_of_host(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "node.example.org"])
def test_web_pages_that_other_machines_reach_need_a_password(tmp_path: Path, host: str) -> None:
    reached = f'[node]\nmetrics_port = 9112\nmetrics_host = "{host}"\n'
    with pytest.raises(ConfigError, match=r"other machines: set web_password \(12 characters or more"):
        load_settings(write(tmp_path, reached))
    load_settings(write(tmp_path, reached.replace("9112", "0")))  # nothing listens there
    settings = load_settings(write(tmp_path, f'{reached}web_password = "correct horse"'))
    assert "correct horse" not in repr(settings)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.0.0.9"])
def test_web_pages_on_this_machine_need_no_password(tmp_path: Path, host: str) -> None:
    load_settings(write(tmp_path, f'[node]\nmetrics_port = 9112\nmetrics_host = "{host}"\n'))


def test_password_that_is_too_short_is_not_said_again(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        load_settings(write(tmp_path, '[node]\nweb_password = "hunter2"'))
    assert "[node] web_password: 12 characters or more" in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_two_destinations_with_one_name_are_refused(tmp_path: Path) -> None:
    table = "[[destination]]\nname = 'a'\nae_title = 'A'\nhost = 'h'\nport = 1\n"
    with pytest.raises(ConfigError, match=re.escape("[[destination]] name 'a' is used twice")):
        load_settings(write(tmp_path, table + table))


def test_unknown_key_in_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DICOM_NODE__NODE__PROT", "1")
    with pytest.raises(ConfigError, match=re.escape("unknown key [node] prot")):
        load_settings()


def test_list_in_the_environment_that_is_no_json_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DICOM_NODE__ACCEPT__CALLERS", "[{")
    with pytest.raises(ConfigError, match=r"environment DICOM_NODE__ACCEPT__CALLERS: .* as JSON there"):
        load_settings()


def test_unknown_section_in_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DICOM_NODE__NOD__PORT", "1")
    with pytest.raises(ConfigError, match="no section 'nod'"):
        load_settings()


def test_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none.toml: can't be read: No such file"):
        load_settings(tmp_path / "none.toml")


def test_settings_of_a_pipeline_come_from_the_file_and_else_from_the_pipeline(tmp_path: Path) -> None:
    info = PipelineInfo("flair", "FLAIR", "1.0.0", "ab", {"threshold": 0.4, "members": 2, "flips": False})
    other = PipelineInfo("fatsat", "FAT-SAT", "1.0.0", "cd", {"members": 32})
    configured = load_settings(write(tmp_path, "[flair]\nflips = true")).configured(
        {"flair": info, "fatsat": other}
    )
    assert configured["flair"].default_settings == {"threshold": 0.4, "members": 2, "flips": True}
    assert configured["fatsat"] == other


def test_defaults_of_the_flair_section_are_those_of_the_pipeline() -> None:
    assert load_settings().flair.model_dump() == default_settings()


def test_fatsat_section_sets_what_the_pipeline_knows_and_no_persons_points(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, "[fatsat]\nthreshold = 0.6\ncrop = 'along-nerve'"))
    assert {**load_settings().fatsat.model_dump(), "points": None} == fatsat_defaults()
    info = PipelineInfo("fatsat", "FAT-SAT", "1.0.0", "ab", fatsat_defaults())
    configured = settings.configured({"fatsat": info})["fatsat"].default_settings
    assert configured == {"members": 32, "threshold": 0.6, "crop": "along-nerve", "points": None}
    with pytest.raises(
        ConfigError, match=re.escape("[fatsat] crop = 'whole': allowed: 'published' or 'along-nerve'")
    ):
        load_settings(write(tmp_path, "[fatsat]\ncrop = 'whole'"))


def test_threshold_outside_its_range_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape("[flair] threshold = 1.5")):
        load_settings(write(tmp_path, "[flair]\nthreshold = 1.5"))


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"from": "archive"}, r"no \[\[destination\]\] has that name; there are: none"),
        ({"form": "pacs"}, r"unknown key \[priors\] form; allowed: from, retrieve"),
        ({"window": "18-6"}, "18:00-06:00"),
        ({"window": "06:00-06:00"}, "hours of the day"),
        ({"retrieve": "web"}, "needs web_url"),
        ({"web_url": "https://me:secret@pacs"}, "web_authorization"),
        ({"from": 4}, r"\[priors\] from = 4: text, in quotes"),
    ],
)
def test_mistakes_in_priors_are_named(table: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        load_settings(None, {"priors": table})
    assert "secret" not in str(caught.value)


def test_archive_of_priors_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DICOM_NODE__PRIORS__FROM", "pacs")
    pacs = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104}
    assert load_settings(None, {"destination": [pacs]}).priors.from_ == "pacs"


def test_objects_of_a_comparison_go_with_their_like(tmp_path: Path) -> None:
    (everything,) = load_settings(write(tmp_path, PACS)).destination
    assert {"change-seg", "change-picture", "change-sr", "change-text"} <= everything.roles
    (reports,) = load_settings(write(tmp_path, f"{PACS}objects = ['sr', 'text-sr']\n")).destination
    assert reports.roles == {"sr", "text-sr", "change-sr", "change-text"}
