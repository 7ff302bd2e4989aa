import math

from pipelines.training.papers.tables import Table, paper_table


def test_table_is_markdown() -> None:
    table = paper_table(
        "T", {"DSC": "dice"}, {"joint": (74.87,)}, {"joint": {"dice": 0.5}, "vnet": {"dice": math.nan}}
    )
    assert table == Table(
        "T",
        ("network", "", "DSC"),
        (("joint", "published", "74.87"), ("joint", "ours", "50.00"), ("vnet", "ours", "-")),
    )
    assert table.markdown().splitlines()[2] == "| network |  | DSC |"
