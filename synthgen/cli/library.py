"""Commands on definition files and on this machine; none needs an output folder."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from synthgen.cli.options import (
    KINDS,
    JsonOption,
    ModelOption,
    OwnPipelineOption,
    PipelineOption,
    SetOption,
    expanded,
    folder_in,
    kind_of,
    pipeline_of,
)
from synthgen.console import note, show_text
from synthgen.errors import UserMistake

app = typer.Typer()

KindArgument = Annotated[str, typer.Argument(parser=kind_of, metavar="KIND", help=f"One of {', '.join(KINDS)}.")]
NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="The name of the file, as `synth list KIND` prints it, or a .yaml file.")
]
OptionalKind = Annotated[
    str | None, typer.Argument(parser=kind_of, metavar="[KIND]", help=f"One of {', '.join(KINDS)}; all without it.")
]


@app.command()
def check(pipeline: PipelineOption = "everyday", settings: SetOption = None) -> None:
    """Check a pipeline and every file that it names, without a model.

    All mistakes at once, and settings that are probably not intended.
    """
    from synthgen.commands.check import after_notes, notes, room_notes, threshold_notes, withheld_notes
    from synthgen.commands.clashes import clash_notes
    from synthgen.config import pipeline as pipelines
    from synthgen.console import pluralize
    from synthgen.job import resolve as loader
    from synthgen.job.selections import language_notes

    loaded, texts = loader.load(pipelines.read(pipeline, settings or []))
    for notice in loader.notices(pipeline, loaded, texts):
        note(notice)
    tree, types = texts.taxonomy.tree, texts.prompts.types
    for line in (
        *notes(tree, texts.rules, types, loaded.plan.forms),
        *threshold_notes(loaded.select.keep, texts.prompts.pack, texts.passes),
        *(
            line
            for name, view in loaded.views.items()
            for line in threshold_notes(view.keep, texts.prompts.pack, texts.passes, f"views.{name}")
        ),
        *after_notes(loaded, texts.prompts.pack, texts.passes),
        *language_notes(loaded),
        *room_notes(loaded),
        *clash_notes(texts.taxonomy, texts.taggers),
        *(f"note: {text}" for text in withheld_notes(types, loaded.plan.allow)),
    ):
        print(line)
    sizes = (
        pluralize(len(tree.leaves), "leaf tag"),
        pluralize(len(types), "instruction type"),
        pluralize(len(texts.rules.rules), "mapping rule"),
    )
    print(f"{pipeline}: {', '.join(sizes)}: no mistakes")


@app.command()
def preview(
    image: Annotated[str, typer.Argument(help="An image file: a path, s3://… or gs://…")],
    out: Annotated[
        str | None, typer.Option("--out", metavar="FOLDER", help="Of a run whose pipeline and settings are taken.")
    ] = None,
    pipeline: OwnPipelineOption = None,
    model: ModelOption = None,
    settings: SetOption = None,
) -> None:
    """Take one image through every stage and print each: tags, rules, types, prompts, replies, scores."""
    from synthgen.commands.open import pipeline_with_run
    from synthgen.commands.preview import preview_image
    from synthgen.job.request import RunRequest

    show_text(preview_image(image, pipeline_with_run(RunRequest.typed(pipeline, None, model, settings), out)))


@app.command("list")
def list_(kind: OptionalKind = None) -> None:
    """List the definition files, yours and the shipped ones."""
    from synthgen.config import library

    for each in [kind] if kind else library.KINDS:
        for name, path in library.names(each).items():
            print(f"{each:<9} {name:<20} {library.about(each, path)}")


@app.command()
def show(
    kind: KindArgument,
    name: NameArgument,
    under: Annotated[
        str, typer.Option("--under", metavar="PATH", help="Of a taxonomy or a family: only this part of the tree.")
    ] = "",
    depth: Annotated[
        int | None, typer.Option(metavar="N", help="Of a taxonomy or a family: at most this many levels.", min=1)
    ] = None,
) -> None:
    """Print a definition file: a taxonomy, a family and a mapping as a tree, the others as they are."""
    from synthgen.commands import show as trees
    from synthgen.config import library

    if kind in ("taxonomy", "family"):
        drawing = trees.tree(kind, name, under, depth)
        show_text(drawing)
        if sys.stdout.isatty() and (hint := trees.how_to_narrow(drawing, depth)):
            note(hint)
    elif under or depth:
        raise UserMistake(f"--under and --depth are for a taxonomy or a family, not for a {kind}")
    elif kind == "mapping":
        print(trees.mapping_text(name))
    else:
        print(library.read(library.find(kind, name)), end="")


@app.command()
def copy(
    kind: KindArgument,
    name: NameArgument,
    new: Annotated[str, typer.Argument(metavar="NEW", help="The name of your copy.")],
) -> None:
    """Copy a definition file into this folder under a new name, to make it yours."""
    from synthgen.config import library

    text = library.read(library.find(kind, name))
    file = Path(library.KINDS[kind]) / f"{name}.yaml"
    if name == new and file.is_file() and library.shipped_folder().samefile(Path.cwd()):
        raise UserMistake(
            f"{file}: is the shipped file itself; edit it in place, or copy it from a working folder of your own"
        )
    target = library.new_path(kind, new)
    library.write_new(target, text)
    print(target)


@app.command()
def learn(
    seed: Annotated[
        str,
        typer.Argument(help="LLaVA or ShareGPT JSON, TRL or FineVision Parquet, a folder of them, or a run's output."),
    ],
    name: Annotated[str, typer.Option("--name", help="The name of the new mapping.")],
    pipeline: OwnPipelineOption = None,
    model: ModelOption = None,
    settings: SetOption = None,
    types_column: Annotated[str | None, typer.Option(help="The seed's field of instruction types.")] = None,
    types_file: Annotated[Path | None, typer.Option(help="A JSON file of instruction types by row id.")] = None,
    tags_column: Annotated[
        str | None, typer.Option(help="The seed's field of tags; without one the tagger finds them.")
    ] = None,
    images: Annotated[str | None, typer.Option(help="The folder that paths in the seed start from.")] = None,
    extends: Annotated[str | None, typer.Option(help="A mapping that the new one adds to.")] = None,
    limit: Annotated[int | None, typer.Option(help="Read at most this many rows.", min=1)] = None,
) -> None:
    """Learn a mapping from a seed set: which instruction types go with which tags; `learn` in the pipeline says how."""
    from synthgen.commands import learn as learner
    from synthgen.commands.open import document_of, open_run_folder
    from synthgen.config import library
    from synthgen.config.pipeline import Pipeline
    from synthgen.job.request import RunRequest

    place = folder_in(seed)
    request = RunRequest.typed(pipeline, None, model, settings)
    folder = open_run_folder(place) if place else None
    _, document = document_of(request, folder, place, ("tag", "generate", "learn"))
    loaded = library.check(document, Pipeline)
    file = expanded(types_file) if types_file else None
    order = learner.LearnRequest(seed, name, loaded, types_column, file, tags_column, images, extends, limit)
    target, report = learner.learn(order)
    show_text("\n".join([*report, str(target)]))


@app.command()
def calibrate(
    labelled: Annotated[
        str, typer.Argument(help="Images with a JSON file beside each, or Parquet with a column of tags.")
    ],
    tagger: Annotated[str, typer.Option("--tagger", help="The open_clip tagger whose thresholds are fitted.")],
    name: Annotated[str, typer.Option("--name", help="The name of the new tagger.")],
    key: Annotated[str, typer.Option(help="The key or column that holds an image's tags.")] = "tags",
    pipeline: PipelineOption = "everyday",
    settings: SetOption = None,
) -> None:
    """Fit a tagger's thresholds to images whose tags are known; writes a new tagger and says what it gains."""
    from synthgen.commands import calibrate as calibrator

    order = calibrator.CalibrateRequest(labelled, tagger, name, key, pipeline_of(pipeline, None, settings))
    target, report = calibrator.calibrate(order)
    show_text("\n".join([*report, str(target)]))


@app.command()
def doctor(
    pipeline: Annotated[
        str | None, typer.Option("--pipeline", "-p", metavar="NAME", help="Look for what this pipeline needs.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Report what is missing on this machine, with the commands that fix it."""
    from synthgen.commands import doctor as examiner

    findings = examiner.examine(pipeline)
    show_text(json.dumps([vars(finding) for finding in findings]) if as_json else examiner.text(findings))
    raise typer.Exit(1 if any(finding.level == "missing" for finding in findings) else 0)
