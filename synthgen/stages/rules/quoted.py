"""What a text quotes: words of the image, of signs and of screens, which are not its own."""

# ruff: noqa: RUF001 (signs of many scripts)

import re

QUOTED = re.compile(
    r"\"[^\"]*\"|“[^”]*”|„[^“”]*[“”]|«[^»]*»|「[^」]*」|『[^』]*』|《[^》]*》|‘[^’]*’(?!\w)|`[^`]*`"
    r"|(?<!\w)'[^'\n]*'(?!\w)"
)
