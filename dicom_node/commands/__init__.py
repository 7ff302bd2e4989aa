"""The commands of ``dicom-node`` that tell, steer and look at files; :mod:`dicom_node.cli` makes the command line.

Each imports what it needs when it is called.
"""
