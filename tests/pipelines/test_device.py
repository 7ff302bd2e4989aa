"""Processors are asked for bfloat16 by their flags."""

from pathlib import Path

import pytest

from pipelines import device


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("flags : fpu sse avx512f avx512_bf16 avx512_vnni", True),
        ("flags : fpu amx_bf16", True),
        ("Features : fp asimd bf16", True),
        ("flags : fpu sse avx2 avx512f", False),
        (None, False),
    ],
)
def test_bfloat16_is_used_where_the_processor_multiplies_in_it(
    flags: str | None, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if flags is not None:
        (tmp_path / "cpuinfo").write_text(flags)
    monkeypatch.setattr(device, "_CPU_INFO", tmp_path / "cpuinfo")
    asked = device.computes_in_bfloat16.__wrapped__
    assert asked("cpu") is expected
    assert asked("cuda:0")
