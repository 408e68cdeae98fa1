"""How other programs ask a patchwise server: a client with the shapes of the library."""

from patchwise.client.adding import AddingFailed, AddReport
from patchwise.client.client import Client
from patchwise.client.shapes import Job, ServedGallery

__all__ = ["AddReport", "AddingFailed", "Client", "Job", "ServedGallery"]
