"""The shapes of requests and answers; the OpenAPI document is made of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from patchwise.metadata import MOST_CHARACTERS

__all__ = [
    "DIGEST",
    "Alike",
    "ExplainRequest",
    "Explanation",
    "Galleries",
    "Gallery",
    "Health",
    "Hit",
    "Image",
    "ImageWithPaths",
    "Images",
    "Job",
    "Jobs",
    "MetadataColumn",
    "Part",
    "Picture",
    "Problem",
    "Region",
    "SearchAnswer",
    "SearchRequest",
    "SessionRequest",
    "SessionState",
]

DIGEST = r"^[0-9a-f]{32}$"
"""An image id: the BLAKE2b digest of the picture's bytes, 16 bytes in hex."""

_EXAMPLE_ID = "5f1d7a84db00d2fce00b31a7fc73224f"
_EXAMPLE_PATH = "/photos/kitchen/03.jpg"

Digest = Annotated[str, Field(pattern=DIGEST, examples=[_EXAMPLE_ID], description="Image id")]
Size = Annotated[tuple[int, int], Field(description="Width and height of the upright picture", examples=[[1600, 1200]])]
BoxEdges = Annotated[
    tuple[float, float, float, float],
    Field(description="x0, y0, x1, y1 in pixels of the upright picture", examples=[[40, 30, 210, 260]]),
]
Finite = Annotated[float, Field(allow_inf_nan=False)]
MetadataValue = str | int | float | None
Metadata = Annotated[
    dict[str, MetadataValue], Field(description="What was given with --metadata", examples=[{"brand": "Acme"}])
]


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str = Field(examples=["urn:patchwise:box"])
    title: str = Field(examples=["Unprocessable Content"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["box 40,30,20,60: x1 must be greater than x0"])
    errors: list[dict[str, Any]] | None = Field(None, description="What is wrong with each part of the request")
    refused: list[Refused] | None = Field(None, description="Uploads that were not taken, where none was")


class MetadataColumn(_Shape):
    """A column of the metadata."""

    name: str = Field(examples=["brand"])
    kind: Literal["text", "number", "mixed"]
    images: int = Field(description="How many images have a value")
    values: list[MetadataValue] = Field(description="The most frequent values, at most 50")
    counts: list[int] = Field(description="How many images have each of these values")
    minimum: int | float | None = None
    maximum: int | float | None = None


class FolderCount(_Shape):
    """A folder of images."""

    path: str = Field(examples=["/photos/kitchen"])
    images: int


class Gallery(_Shape):
    """A gallery that is served."""

    name: str = Field(examples=["photos"])
    images: int = Field(description="Files")
    distinct_images: int
    regions: int
    unreadable: int
    encoder: str = Field(examples=["builtin"])
    dimension: int
    regions_strategy: str = Field(examples=["pyramid:3"])
    reads_text: bool = Field(description="Whether texts can be searched for")
    created: str
    can_add: bool
    can_remove: bool
    roots: bool = Field(description="Whether server-side paths can be added")
    folders: list[FolderCount] = Field(description="At most 200, those with most images first")
    metadata: list[MetadataColumn]
    version: str = Field(description="Changes whenever images do")


class Galleries(_Shape):
    """All galleries, the default first."""

    galleries: list[Gallery]


class Image(_Shape):
    """A file that is indexed."""

    image: Digest
    path: str = Field(examples=[_EXAMPLE_PATH])
    size: Size
    metadata: Metadata


class ImageWithPaths(Image):
    """An image and all files that hold it."""

    paths: list[str] = Field(examples=[[_EXAMPLE_PATH]])


class Images(_Shape):
    """Some of the images, by path."""

    total: int = Field(description="How many there are in all")
    images: list[Image]


class Picture(_Shape):
    """A query picture that is kept."""

    image: Digest
    size: Size
    format: str = Field(examples=["JPEG"])
    in_gallery: bool = Field(description="Whether the gallery holds the same picture")


class Part(_Shape):
    """A part of a query: a picture, all of it or what is inside `box`, or a text."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": ["picture"], "properties": {"picture": {"type": "string"}, "text": {"type": "null"}}},
                {
                    "required": ["text"],
                    "properties": {
                        "text": {"type": "string"},
                        "picture": {"type": "null"},
                        "box": {"type": "null"},
                        "small": {"const": False},
                    },
                },
            ]
        }
    )

    picture: Digest | None = None
    text: str | None = Field(None, min_length=1, max_length=2000, examples=["a red bicycle"])
    box: BoxEdges | None = None
    weight: Finite = Field(1.0, description="Only its ratio to other parts matters; below 0: not wanted")
    small: bool = Field(False, description="The object may be small even beside the regions of the gallery")
    name: str = Field("", max_length=4096, description="How results call it")

    @model_validator(mode="after")
    def _one_of_two(self) -> Part:
        if (self.picture is None) == (self.text is None):
            raise ValueError("a part of a query is either a picture or a text")
        return self


class SearchRequest(_Shape):
    """What to search for, and which hits are wanted."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"parts": [{"picture": _EXAMPLE_ID, "box": [40, 30, 210, 260]}], "k": 20},
                {"parts": [{"text": "a red bicycle"}], "where": "year >= 2019"},
            ]
        }
    )

    parts: list[Part] = Field(min_length=1, max_length=16, description="One region of an image shall fit all at once")
    k: int = Field(20, ge=1, le=1000, description="How many hits at most")
    offset: int = Field(0, ge=0, le=1_000_000, description="Leave out this many of the best")
    min_score: Finite | None = Field(None, description="Leave out hits below this score")
    under: list[str] = Field([], max_length=100, description="Only files that are one of these or below one")
    where: str = Field("", max_length=MOST_CHARACTERS, examples=["brand = 'Acme' and year >= 2019"])
    recall: float = Field(0.99, gt=0, le=1, description="Share of the true best to find where codes are searched")
    exact: bool = Field(False, description="Look at every vector")
    rerank: str = Field("", max_length=200, description="Up to 4 looks at up to 1,000 hits", examples=["refine:20"])
    expand: str = Field("", max_length=40, description="Ask again with the matches: average or alpha:A")
    fuse: str = Field("", max_length=40, description="Ask for each part by itself: mean, max or rank")
    collapse: bool = Field(False, description="One hit for near-duplicates")


class Region(_Shape):
    """A region and its score."""

    box: BoxEdges
    level: int
    cell: tuple[int, int] = Field(description="Row and column")
    score: float


class Geometry(_Shape):
    """What local features say of a hit."""

    verdict: Literal["verified", "not verified", "not enough texture"]
    inliers: int
    outline: list[tuple[float, float]]


class Alike(_Shape):
    """An image that was found."""

    rank: int
    image: Digest
    path: str = Field(examples=[_EXAMPLE_PATH])
    score: float
    box: BoxEdges
    level: int
    cell: tuple[int, int]
    size: Size
    expected_false_matches: float | None
    matches: bool | None = Field(description="Whether it is the object and no chance likeness; null: unknown")
    regions: list[Region] = Field(description="The ten best, best first")
    metadata: Metadata
    part_scores: list[float] | None = None
    instances: list[Region] | None = None
    geometry: Geometry | None = None


class Hit(Alike):
    """An image that was found, with its near-duplicates where these are collapsed."""

    alike: list[Alike] | None = None


class SearchAnswer(_Shape):
    """The hits, best first, and what they say together."""

    query: str
    box: BoxEdges | None
    parts: list[Part]
    hits: list[Hit]
    verdict: Literal["match", "no match", "unknown"]
    seconds: float
    images: int = Field(description="How many were searched")
    version: str


class ExplainRequest(_Shape):
    """Which image to explain for which query."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"parts": [{"picture": _EXAMPLE_ID, "box": [40, 30, 210, 260]}], "image": _EXAMPLE_ID}]
        }
    )

    parts: list[Part] = Field(min_length=1, max_length=16)
    image: Digest
    path: str | None = Field(None, max_length=4096, description="Which of its files; otherwise the first")
    fuse: str = Field("", max_length=40, description="As in the search; a region then has its best score of all parts")


class Explanation(_Shape):
    """Every region of an image with its score, in region order, and for each part where there are several."""

    image: Digest
    path: str
    size: Size
    regions: list[Region]
    parts: list[list[Region]]


class Refused(_Shape):
    """An uploaded file that was not taken."""

    name: str
    reason: str


class Failed(_Shape):
    """A file that could not be indexed."""

    path: str
    reason: str


class Job(_Shape):
    """Work that goes on after the answer."""

    job: str = Field(examples=["9f86d081884c7d65"])
    gallery: str = Field(examples=["photos"])
    kind: Literal["add"]
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    done: int = Field(description="Files that are done")
    total: int = Field(description="Files that need a look; 0 until they are counted")
    added: int = Field(description="Files that can be found now and could not before")
    failures: int = Field(description="Files that could not be indexed")
    failed: list[Failed] = Field(description="The first 200 of these")
    refused: list[Refused] = Field(description="Uploads that were not taken")
    note: str | None = Field(None, description="Why nothing moves, such as another process that is writing")
    error: str | None = Field(None, description="Why the job failed")
    created: str = Field(examples=["2026-01-31T12:00:00+00:00"])
    finished: str | None = None


class Jobs(_Shape):
    """The jobs of a gallery, newest first."""

    jobs: list[Job]


class PathsRequest(_Shape):
    """Server-side files and folders to add."""

    paths: list[str] = Field(min_length=1, max_length=1000, examples=[["/photos/new"]])


class Health(_Shape):
    """The server answers."""

    status: Literal["ok"]
    version: str


class SessionRequest(_Shape):
    """The token, so that the browser may keep a session."""

    token: str = Field(min_length=1, max_length=1000)


class SessionState(_Shape):
    """Whether a token is needed, and whether this request brought one along."""

    required: bool
    valid: bool
