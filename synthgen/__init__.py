"""synthgen: a bucket of images into multimodal instruction data. Start reading at run.py."""

import logging

__version__ = "0.1.0"

# A program that imports the package decides where its records go; without this line Python prints warnings.
logging.getLogger(__name__).addHandler(logging.NullHandler())
