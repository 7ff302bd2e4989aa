"""The analysis pipelines: arrays and affines in, Findings out. Knows neither DICOM nor the network."""
