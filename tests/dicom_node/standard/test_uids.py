from __future__ import annotations

import re
import uuid

from pydicom.uid import UID

from dicom_node.standard.uids import derived_uid, uid_key


def test_derived_uid_is_the_same_for_the_same_sources_only() -> None:
    assert derived_uid("job", 1, "seg") == "2.25.27703009571845457166261995222418471316"
    assert derived_uid("job", 1, "seg") == derived_uid("job", "1", "seg")
    assert (
        len({derived_uid("a", "bc"), derived_uid("ab", "c"), derived_uid("abc"), derived_uid("a", "bc", "")})
        == 4
    )


def test_derived_uid_is_a_valid_uid_of_a_uuid() -> None:
    for number in range(50):
        uid = derived_uid("x", number)
        assert UID(uid).is_valid
        value = uuid.UUID(int=int(uid.removeprefix("2.25.")))
        assert (value.version, value.variant) == (8, uuid.RFC_4122)


def test_key_of_any_text_is_safe_in_a_path() -> None:
    for text in ("1.2.840.113619", "../../etc/passwd", "", "ü/\0\\"):
        assert re.fullmatch("[0-9a-f]{32}", uid_key(text))
    assert uid_key("1.2.3") != uid_key("1.2.4")
    assert uid_key("1.2.3") == "c47f5b18b8a430e698b9fe15e51f6119"  # data folders hold it
