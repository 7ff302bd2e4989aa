"""What status values mean."""

from __future__ import annotations

import pytest

from dicom_node.standard.status import category, describe, is_temporary


@pytest.mark.parametrize(
    ("status", "kind", "temporary", "text"),
    [
        (0x0000, "success", False, "0000 success"),
        (0xB000, "warning", False, "B000 coercion of data elements"),
        (0xB006, "warning", False, "B006 elements discarded"),
        (0xB007, "warning", False, "B007 data set does not match the SOP class"),
        (0xB123, "warning", False, "B123 warning"),
        (0x0107, "warning", False, "0107 attribute list error"),
        (0x0110, "failure", False, "0110 processing failure"),
        (0x0122, "failure", False, "0122 SOP class not supported"),
        (0x0124, "failure", False, "0124 not authorised"),
        (0x0213, "failure", True, "0213 resource limitation"),
        (0xA700, "failure", True, "A700 out of resources"),
        (0xA7FF, "failure", True, "A7FF out of resources"),
        (0xA900, "failure", False, "A900 data set does not match the SOP class"),
        (0xC000, "failure", False, "C000 cannot understand"),
        (0xCFFF, "failure", False, "CFFF cannot understand"),
        (0x1234, "failure", False, "1234 unknown status"),
    ],
)
def test_status_is_what_the_standard_says(status, kind, temporary, text):
    assert category(status) == kind
    assert is_temporary(status) is temporary
    assert describe(status) == text
