"""The table of the forms of export."""

from collections.abc import Mapping

from synthgen.commands.export.form import Form
from synthgen.commands.export.forms.finevision import FINEVISION
from synthgen.commands.export.forms.llamafactory import LLAMAFACTORY
from synthgen.commands.export.forms.llava import LLAVA
from synthgen.commands.export.forms.lmms_eval import LMMS_EVAL
from synthgen.commands.export.forms.ms_swift import MS_SWIFT
from synthgen.commands.export.forms.sharegpt import SHAREGPT
from synthgen.commands.export.forms.spreadsheet import CSV
from synthgen.commands.export.forms.trl import TRL
from synthgen.commands.export.forms.trl_turns import TRL_TURNS
from synthgen.commands.export.forms.vlmevalkit import VLMEVALKIT
from synthgen.commands.export.forms.webdataset import WEBDATASET

_FORMS = (
    *(LLAVA, SHAREGPT, LLAMAFACTORY, MS_SWIFT, TRL, TRL_TURNS, FINEVISION, WEBDATASET),
    *(VLMEVALKIT, LMMS_EVAL, CSV),
)
FORMS: Mapping[str, Form] = {form.name: form for form in _FORMS}
