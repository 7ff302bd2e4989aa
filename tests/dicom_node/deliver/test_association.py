from dataclasses import replace

import pytest
from pynetdicom import evt
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import Verification

from dicom_node.deliver.association import RejectedError, associate


def test_rejection_that_is_over_before_it_is_looked_for_is_a_rejection(make_pacs):
    pacs = make_pacs()
    until_closed = (evt.EVT_REQUESTED, lambda event: event.assoc.dul.join(20))
    with (
        pytest.raises(RejectedError, match="the peer does not go by the AE title OTHER"),
        associate(
            replace(pacs.address, ae_title="OTHER"),
            "NODE",
            [build_context(Verification)],
            handlers=[until_closed],
        ),
    ):
        pass
