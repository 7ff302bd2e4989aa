"""The DICOM node: receives series, has them analysed by workers, and sends the findings back to the PACS."""

__version__ = "0.2.0"
