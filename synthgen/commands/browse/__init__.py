"""`synth browse`: a local page to search the pairs, images and tags of a run, and to see how each came about."""

from synthgen.commands.browse.command import BrowseRequest, browse

__all__ = ["BrowseRequest", "browse"]
