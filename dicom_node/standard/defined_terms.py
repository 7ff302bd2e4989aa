"""Defined terms and enumerated values of attributes: of a header's texts only these may stand in a reason.

A code string may hold anything that somebody typed, and scanners and archives do put names there. A term that the standard
or a maker's conformance statement defines names nobody.

References
----------
DICOM PS3.3 C.7.3.1.1.1 (Modality), C.7.6.1.1.2 and C.8.3.1.1.1 (ImageType), C.7.6.3.1.2 (PhotometricInterpretation),
C.8.3.1 and C.8.13.4 (MR), C.8.13.1 (ContentQualification); PS3.16 Annex L (BodyPartExamined)
"""

from __future__ import annotations

from collections.abc import Mapping

OTHER = "(another term)"
"""Stands in a reason for a text that is no defined term."""


def _terms(text: str) -> frozenset[str]:
    return frozenset(term.strip() for term in text.split("|"))


DEFINED_TERMS: Mapping[str, frozenset[str]] = {
    "AcquisitionContrast": _terms(
        "DIFFUSION|FLOW_ENCODED|FLUID_ATTENUATED|PERFUSION|PROTON_DENSITY|STIR|TAGGING|T1|T2|T2_STAR|TOF|MIXED|UNKNOWN"
    ),
    "BodyPartExamined": _terms(
        "ABDOMEN|ABDOMENPELVIS|ANKLE|AORTA|ARM|BLADDER|BRAIN|BREAST|CALF|CAROTID|CHEST|CHESTABDOMEN|CHESTABDPELVIS|CLAVICLE|"
        "COCCYX|CSPINE|CTSPINE|EAR|ELBOW|EXTREMITY|EYE|FACE|FEMUR|FINGER|FOOT|FOREARM|HAND|HEAD|HEADNECK|HEART|HIP|HUMERUS|"
        "IAC|JAW|KIDNEY|KNEE|LEG|LIVER|LSPINE|LSSPINE|LUNG|MAXILLA|NECK|NOSE|OPTICCANAL|ORBIT|PANCREAS|PELVIS|PROSTATE|"
        "SACRUM|SELLA|SHOULDER|SINUS|SKULL|SPINE|SSPINE|STERNUM|THIGH|THUMB|TIBIA|TLSPINE|TMJ|TOE|TSPINE|UTERUS|WHOLEBODY|"
        "WRIST|ZYGOMA"
    ),
    "ContentQualification": _terms("PRODUCT|RESEARCH|SERVICE"),
    "EchoPlanarPulseSequence": _terms("YES|NO"),
    "ImageType": _terms(
        "ORIGINAL|DERIVED|MIXED|PRIMARY|SECONDARY|LOCALIZER|AXIAL|MPR|OTHER|VOLUME|NONE|"
        "DENSITY MAP|DIFFUSION MAP|IMAGE ADDITION|MODULUS SUBTRACT|PHASE MAP|PHASE SUBTRACT|PROJECTION IMAGE|T1 MAP|T2 MAP|"
        "VELOCITY MAP|DIFFUSION|PERFUSION|ADC|FA|ASL|MIP|MINIP|MEAN|AVERAGE|REFORMATTED|RESAMPLED|SUBTRACTION|FILTERED|"
        "M|P|R|I|SE|IR|FFE|M_SE|M_IR|M_FFE|PHASE|MAGNITUDE|ND|NORM|DIS2D|DIS3D|MFSPLIT|MOSAIC|EPI|TRACEW|DRB|DRS|FAT|WATER|W|IP|OP|"
        "IN_PHASE|OUT_PHASE|CSA IMAGE"
    ),
    "MRAcquisitionType": _terms("1D|2D|3D"),
    "Modality": _terms(
        "AR|ASMT|AU|BDUS|BI|BMD|CFM|CR|CT|CTPROTOCOL|DMS|DG|DOC|DX|ECG|EEG|EMG|EOG|EPS|ES|FID|GM|HC|HD|IO|IOL|IVOCT|IVUS|KER|KO|LEN|"
        "LS|MG|MR|M3D|NM|OAM|OCT|OP|OPM|OPT|OPTBSV|OPTENF|OPV|OSS|OT|PA|PLAN|POS|PR|PT|PX|REG|RESP|RF|RG|RTDOSE|RTIMAGE|"
        "RTINTENT|RTPLAN|RTRAD|RTRECORD|RTSEGANN|RTSTRUCT|RWV|SEG|SM|SMR|SR|SRF|STAIN|TEXTUREMAP|TG|US|VA|XA|XAPROTOCOL|XC"
    ),
    "PhotometricInterpretation": _terms(
        "MONOCHROME1|MONOCHROME2|PALETTE COLOR|RGB|HSV|ARGB|CMYK|YBR_FULL|YBR_FULL_422|YBR_PARTIAL_422|YBR_PARTIAL_420|"
        "YBR_ICT|YBR_RCT|XYB"
    ),
    "ScanOptions": _terms(
        "PER|RG|CG|PPG|FC|PFF|PFP|SP|FS|SFS|WE|IR|DB|OTHER|FATSAT|FAT_SAT|SPIR|SPAIR|SAT1|SAT2|SAT_GEMS|FAST_GEMS|EDR_GEMS|IR_GEMS|"
        "TRF_GEMS|CUBE_GEMS|IDEAL_GEMS|T1FLAIR_GEMS|T2FLAIR_GEMS|EPI_GEMS|DIFF_GEMS|FC_GEMS|ACC_GEMS|PFF_GEMS|PFP_GEMS"
    ),
    "ScanningSequence": _terms("SE|IR|GR|EP|RM"),
    "SequenceVariant": _terms("SK|MTC|SS|TRSS|SP|MP|OSP|NONE"),
    "SpectrallySelectedSuppression": _terms("FAT|WATER|FAT_AND_WATER|SILICON_GEL|NONE|MIXED"),
}
"""By keyword; the terms of ImageType and ScanOptions that the large makers of MR scanners define are among them."""


def term(keyword: str, text: str) -> str:
    """Return a text of a header as a reason may show it: a defined term as it is, any other as `OTHER`."""
    plain = text.strip().upper()
    return plain if plain in DEFINED_TERMS.get(keyword, frozenset()) else OTHER
