"""Series: what their headers say, whether they are whole, and their way to a Volume and back to DICOM.

No network and no database here.
"""

from dicom_node.series import jpeg

jpeg.register()
