"""Every error that a person may meet, as one tree.

NodeError
├── ConfigError          a key, a value or the file itself
├── AddressError         AET@HOST:PORT that can't be read or resolved
├── PortTakenError       somebody else listens there
├── BrokerError          no broker, or a broker that refuses us
├── SpoolError           the data folder: rights, space, a file that can't be written
├── MessageError         a message to a worker that it can't read
├── StateError           the node's database, or a transition that is not allowed
├── UnreadableError      a file that is not DICOM, is cut off, or has no pixels
│   └── NoDicomError     a file of another kind
├── GeometryError        images that do not form one volume
├── RoutingError         a rule that can't be read
├── ResultError          an object that can't be built
├── DeliveryError        a destination that refuses or can't be reached
├── CohortError          a file of a cohort that can't be read, made or used
├── PriorError           an earlier study that can't be looked for or had
└── NotFoundError        an ID that nothing has, or that several have
"""


class NodeError(Exception):
    """Root of all errors that end in one clear line for the person at the console."""


class ConfigError(NodeError):
    """A configuration key or value that is not allowed; the message names it and says what is."""


class AddressError(NodeError):
    """A DICOM address that can't be read (expected AET@HOST:PORT) or resolved."""


class PortTakenError(NodeError):
    """The port that the node should listen on is in use."""


class BrokerError(NodeError):
    """The broker can't be reached, started or used."""


class SpoolError(NodeError):
    """The data folder can't be used: rights, space, or a file that can't be written."""


class MessageError(NodeError):
    """A message from node to worker that is of another version, or that lacks what it must say."""


class StateError(NodeError):
    """The node's database can't be used, or a transition between states is not allowed."""


class UnreadableError(NodeError):
    """A file that is not DICOM, is cut off, or can't be decoded."""


class NoDicomError(UnreadableError):
    """A file of another kind than DICOM, as they lie beside images."""


class GeometryError(NodeError):
    """Images that do not form one even, unbroken volume."""


class RoutingError(NodeError):
    """A routing rule that can't be read."""


class ResultError(NodeError):
    """A result object that can't be built from the findings."""


class DeliveryError(NodeError):
    """A destination that can't be reached or that refuses an object."""


class CohortError(NodeError):
    """A file of a cohort that can't be read, or of which none can be made."""


class PriorError(NodeError):
    """An earlier study of a patient that can't be looked for, or that the archive does not give."""


class NotFoundError(NodeError):
    """An ID that nothing has, or that several things have."""
