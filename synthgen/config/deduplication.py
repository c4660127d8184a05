"""Settings of pipelines about what repeats: near texts of the whole set, phrases, and benchmarks."""

from pydantic import Field, model_validator

from synthgen.config.fields import BaseUrls, Uri
from synthgen.config.library import Section


class NearQuestionsConfig(Section):
    """Near questions of the whole set: how near they are, and how many of them are kept."""

    similarity: float = Field(default=0.8, gt=0, le=1)  # Jaccard; 1: equal only
    most: int = Field(default=1, gt=0)  # of those near to the same one, it included
    characters: int = Field(default=0, ge=0)  # shorter ones are not compared


class NearAnswersConfig(Section):
    """Near answers of the whole set; short ones are alike without being duplicates."""

    similarity: float = Field(default=0.8, gt=0, le=1)
    most: int = Field(default=1, gt=0)
    characters: int = Field(default=40, ge=0)


class QuestionMeaningsConfig(Section):
    """Questions of the whole set that mean nearly the same."""

    cosine: float = Field(gt=0, le=1)  # of the embeddings of near ones; which one is right depends on the model
    most: int = Field(default=1, gt=0)  # of those near to the same one, it included
    characters: int = Field(default=0, ge=0)  # shorter ones are not compared


class AnswerMeaningsConfig(Section):
    """Answers of the whole set that mean nearly the same; short ones do so without being duplicates."""

    cosine: float = Field(gt=0, le=1)
    most: int = Field(default=1, gt=0)
    characters: int = Field(default=40, ge=0)


class SemanticConfig(Section):
    """Texts of the whole set that are compared by their embeddings, and the model that makes these."""

    model: str = Field(min_length=1)  # an open_clip name, hf-hub:organisation/name, or a folder; with urls, as served
    pretrained: str | None = None  # open_clip's name for the weights; not with a folder
    urls: BaseUrls = ()  # of endpoints that serve /embeddings; without them open_clip embeds in this process
    key_env: str = "OPENAI_API_KEY"  # the environment variable that holds the key of the endpoints, if there is one
    questions: QuestionMeaningsConfig | None = None
    answers: AnswerMeaningsConfig | None = None

    @model_validator(mode="after")
    def _check_any(self) -> "SemanticConfig":
        if self.questions is None and self.answers is None:
            raise ValueError("nothing is compared; give questions or answers, or both, each with a cosine")
        if self.urls and self.pretrained is not None:
            raise ValueError("pretrained is of an open_clip model, and urls serve their own; leave one of them out")
        return self


class PhrasesConfig(Section):
    """Questions that share the phrase of a template."""

    words: int = Field(default=4, ge=2, le=10)  # the fewest of a phrase
    most: float = Field(default=0.2, gt=0, le=1)  # share of the questions of a type that may have it


class DecontaminateConfig(Section):
    """Benchmark sets of which no image and no question may be in the data."""

    sets: tuple[Uri, ...] = Field(min_length=1)  # folders of images, TSV of VLMEvalKit, Parquet, output folders
    images: tuple[str, ...] = ("image",)  # columns of tables that hold images
    questions: tuple[str, ...] = ("question",)
    bits: int = Field(default=8, ge=0, le=16)  # differing bits of near hashes, which thumbnails confirm
    cosine: float | None = Field(default=None, gt=0, le=1)  # of embeddings, where a set is an output folder
    words: int = Field(default=13, ge=8)  # in a row, that no question shares with one of a benchmark
