"""What `synth VERB` does: a file or folder for each verb.

Kept empty, so that a command imports only what it needs.
"""
