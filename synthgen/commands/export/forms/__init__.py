"""The forms of export, a module each."""
