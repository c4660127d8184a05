"""synthgen: a bucket of images into multimodal instruction data. Start reading at run.py."""

__version__ = "0.1.0"
