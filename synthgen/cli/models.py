"""Commands on models: train one on a run's shards, evaluate it, and fit a small judge."""

import json
from pathlib import Path
from typing import Annotated

import typer

from synthgen.cli.options import (
    FolderArgument,
    JsonOption,
    OnSource,
    OutOption,
    OwnPipelineOption,
    SetOption,
    expanded,
    folder_in,
)
from synthgen.console import show_text
from synthgen.errors import UserMistake

app = typer.Typer()


@app.command()
def train(
    model: Annotated[str, typer.Option("--model", help="The model to start from: a hub name or a folder.")],
    out: Annotated[Path, typer.Option("--out", help="Where the tuned model goes.")],
    shards: Annotated[
        str | None, typer.Argument(help="A run's output folder, or a folder of shards; a recipe may name its data.")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(metavar="NAME", help="Train in the stages of this recipe; `synth list recipe`.")
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option("--data", metavar="NAME=PLACE", help="Where a data set of the recipe is; may be repeated."),
    ] = None,
    scale: Annotated[float, typer.Option(metavar="F", help="Take so many times the steps of each stage.")] = 1.0,
    pipeline: OwnPipelineOption = None,
    settings: SetOption = None,
) -> None:
    """Fine-tune a vision-language model on a run's shards, or on several data sets in the stages of a recipe."""
    from synthgen import train as trainer
    from synthgen.commands.open import document_of, open_run_folder
    from synthgen.commands.schedule import TrainRequest, schedule_of
    from synthgen.config import library
    from synthgen.config.pipeline import Pipeline
    from synthgen.job.request import RunRequest

    place = folder_in(shards) if shards else ""
    typed = RunRequest.typed(pipeline, None, None, settings)
    _, document = document_of(typed, open_run_folder(place) if place else None, place, ("train",))
    request = TrainRequest(shards, recipe, tuple(data or ()), scale, tuple(settings or ()))
    schedule = schedule_of(request, library.check(document, Pipeline).train)
    print(trainer.train_stages(schedule, model, expanded(out)))


@app.command(cls=OnSource)
def evaluate(
    source: Annotated[
        str,
        typer.Argument(
            metavar="QUESTIONS",
            help="A run's output folder, a folder of shards, or a file of questions: JSONL, JSON, CSV, TSV, Parquet.",
        ),
    ],
    out: OutOption = "",
    model: Annotated[
        str | None, typer.Option("--model", metavar="MODEL", help="The model that is asked: a hub name or a folder.")
    ] = None,
    against: Annotated[
        str | None, typer.Option("--against", metavar="MODEL", help="Another model, to compare it with.")
    ] = None,
    pipeline: OwnPipelineOption = None,
    settings: SetOption = None,
    limit: Annotated[int | None, typer.Option(metavar="N", help="Ask about at most this many images.", min=1)] = None,
    images: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="The folder that paths in a question file start from.")
    ] = None,
    exports: Annotated[
        list[str] | None,
        typer.Option("--export", metavar="FORM", help="Write it for lmms-eval or vlmevalkit too; may be repeated."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Ask a model questions whose answers are known: how right it is, by type, and against another model."""
    from synthgen.commands import evaluate as evaluating
    from synthgen.commands.open import document_of, open_run_folder
    from synthgen.config import library
    from synthgen.config.pipeline import Pipeline
    from synthgen.job.request import RunRequest

    models = tuple(name for name in (model, against) if name)
    if against and not model:
        raise UserMistake(f"--against {against}: needs --model, the model that it is compared with")
    place = folder_in(source)
    folder = open_run_folder(place) if place else None
    typed = RunRequest.typed(pipeline, None, None, settings)
    _, document = document_of(typed, folder, place, ("images", "generate", "evaluate"))
    request = evaluating.EvaluateRequest(source, out, models, limit, tuple(exports or ()), images)
    evaluating.check_request(request, document)
    summary = evaluating.evaluate(request, library.check(document, Pipeline))
    if summary:
        show_text(json.dumps(summary, ensure_ascii=False) if as_json else evaluating.report(summary))


@app.command()
def distill(
    folder: FolderArgument,
    score: Annotated[str, typer.Option("--score", help="The score whose grades the small judge learns.")],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="The new folder of the small judge.")],
    threshold: Annotated[
        float | None, typer.Option(help="Of the score; the report says how well it is met. The median by default.")
    ] = None,
    sure: Annotated[
        float, typer.Option(help="The share of the pairs that the small judge decides.", min=0.0, max=1.0)
    ] = 0.8,
    labels: Annotated[
        bool, typer.Option("--labels", help="Learn what people said (synth audit), as values of the score.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Fit a small judge to the grades of a large one, or of people; it grades at a fraction of the cost."""
    from synthgen.commands import distill as distiller

    request = distiller.DistillRequest(folder, score, out, threshold, sure, labels)
    made = distiller.distill(request)
    show_text(json.dumps(made.measured) if as_json else distiller.report(request, made))
