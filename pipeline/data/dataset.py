"""`dataset.yaml`: which domains there are, what they are for, and where their tables come from.

    name: bookshop
    clock: real                 # real | order (the rows have an order but no clock)
    protocol: temporal          # temporal | leave_one_out
    domains:
      novels:
        role: source            # source | target | [source, target]
        interactions: novels/events-*.parquet
        items: {path: novels/items.csv.gz, columns: {item_id: isbn, text: title}}
      poems:
        role: target
        interactions: {sql: "postgresql://reader:${PASSWORD}@db/shop", table: poem_events}
        items: s3://shop/poems/items.parquet

or `world:` in place of `domains:` with the parameters of the synthetic world. Paths are relative to the file.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from pipeline.data.schema import SCHEMAS, TableName
from pipeline.data.world.params import SIZES, TARGETS, WorldParams, world_domains
from pipeline.exit_codes import BadConfiguration

Role = Literal["source", "target"]
WORLD_PREFIX = "world:"


class Source(BaseModel):
    """Where one table comes from: a file, a glob or a URL (`path`), or a database (`sql` with `table` or `query`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str | None = Field(default=None, description="file, glob or fsspec URL; relative to dataset.yaml")
    sql: str | None = Field(default=None, description="SQLAlchemy URL; ${VARIABLES} come from the environment")
    table: str | None = Field(default=None, description="table or schema.table to read whole")
    query: str | None = Field(default=None, description="SELECT …; `:as_of` is bound to the run's as_of")
    format: Literal["parquet", "csv", "tsv"] | None = Field(default=None, description="default: by file name")
    columns: dict[str, str] = Field(default_factory=dict, description="canonical name -> name in the source")
    timestamp_unit: Literal["s", "ms", "us", "iso"] | None = Field(
        default=None, description="of numeric or text timestamps; a real timestamp column needs none"
    )
    attribute_separator: str = Field(default="|", min_length=1, description="where attributes are one text")
    event: str | None = Field(default=None, description="event type of every row of a source without an event column")
    version: str | None = Field(default=None, description="SQL: a name for this state of the data; equal = unchanged")
    version_query: str | None = Field(default=None, description="SQL: its result is the version, e.g. max(updated_at)")

    @model_validator(mode="after")
    def _one_place(self) -> Source:
        if (self.path is None) == (self.sql is None):
            raise ValueError("give either path: or sql:")
        if self.sql is not None and (self.table is None) == (self.query is None):
            raise ValueError("sql: needs either table: or query:")
        if self.sql is None and (self.table or self.query or self.version or self.version_query):
            raise ValueError("table:, query:, version: and version_query: belong to sql:")
        return self

    @property
    def place(self) -> str:
        """How a person would name it; never with a password."""
        if self.path is not None:
            return _without_login(self.path)
        what = f"table {self.table}" if self.table else "its query"
        return f"{what} of {str(self.sql).split('@')[-1].split('?')[0]}"


def _without_login(path: str) -> str:
    """`https://user:password@host/rows.csv?signature=…` -> `https://host/rows.csv`."""
    scheme, separator, rest = path.partition("://")
    if not separator:
        return path
    host, slash, tail = rest.partition("/")
    if scheme in ("http", "https"):  # elsewhere a question mark is part of a glob
        tail = tail.split("?", 1)[0]
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{tail}"


class Domain(BaseModel):
    """One market, shop or catalogue."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: tuple[Role, ...] = Field(description="what the domain is for; both is legal")
    interactions: Source | None = Field(default=None, description="none: a target nobody has used yet (zero-shot)")
    items: Source | None = Field(default=None, description="none: the items are those of the interactions")
    users: Source | None = Field(default=None, description="none: the users are those of the interactions")

    @field_validator("role", mode="before")
    @classmethod
    def _one_or_more(cls, role: Any) -> Any:
        roles = [role] if isinstance(role, str) else role
        if not roles:
            raise ValueError("give role: source, target or [source, target]")
        return sorted(set(roles))

    @field_validator("interactions", "items", "users", mode="before")
    @classmethod
    def _path_alone(cls, source: Any) -> Any:
        return {"path": source} if isinstance(source, str) else source

    @model_validator(mode="after")
    def _something_to_rank(self) -> Domain:
        if self.interactions is None and self.items is None:
            raise ValueError("has neither interactions: nor items:, so there is nothing to recommend")
        if self.interactions is None and "source" in self.role:
            raise ValueError("is a source and needs interactions:")
        for table in SCHEMAS:
            source = self.table(table)
            if source is not None:
                _known_columns(table, source)
        return self

    def table(self, name: TableName) -> Source | None:
        """The source of one table."""
        return {"interactions": self.interactions, "items": self.items, "users": self.users}[name]


class Dataset(BaseModel):
    """A whole `dataset.yaml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    clock: Literal["real", "order"] = "real"
    protocol: Literal["temporal", "leave_one_out"] = "temporal"
    pseudonyms: Literal["keyed", "public"] = Field(
        default="keyed",
        description="keyed: with this machine's secret; public: with a published key, for data that names nobody, "
        "so that results are the same on every machine",
    )
    events: tuple[str, ...] | None = Field(default=None, description="legal event types; none: those of the contract")
    domains: dict[str, Domain] = Field(default_factory=dict)
    world: WorldParams | None = None
    root: Path = Field(default=Path(), exclude=True, description="folder of dataset.yaml")

    @model_validator(mode="after")
    def _domains_or_world(self) -> Dataset:
        if (self.world is None) == (not self.domains):
            raise ValueError("give either domains: or world:")
        for name in self.domains:
            if not name.replace("_", "").replace("-", "").isalnum() or not name.isascii():
                raise ValueError(f"domain name {name!r} must be made of letters, digits, - and _ (it names folders)")
        return self

    @property
    def roles(self) -> dict[str, list[Role]]:
        """Every domain's roles, in the order of the file."""
        if self.world is not None:
            return {name: [market.role] for name, market in world_domains(self.world).items()}
        return {name: list(domain.role) for name, domain in self.domains.items()}


def _known_columns(table: TableName, source: Source) -> None:
    known = [*SCHEMAS[table].names, *(["position"] if table == "interactions" else [])]
    for column in source.columns:
        if column not in known and not (table == "items" and column.endswith("_vector")):
            raise ValueError(
                f"{table}: columns: names {column!r}, which is no canonical column{nearest(column, known)}"
            )


def nearest(name: str, known: list[str]) -> str:
    """ "; did you mean 'x'?" or, when nothing is near, the list of what is known."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}"


def load_dataset(data: str) -> Dataset:
    """The dataset behind the parameter `data`: `world:<size>`, a folder with a `dataset.yaml`, or a yaml file.

    Raises:
        BadConfiguration: nothing stands there, or what stands there is no dataset; the sentence names the field.
    """
    if data.startswith(WORLD_PREFIX):
        size = data.removeprefix(WORLD_PREFIX)
        if size not in SIZES:
            raise BadConfiguration(f"data: the synthetic world has no size {size!r}{nearest(size, list(SIZES))}.")
        return Dataset(name=f"world-{size}", pseudonyms="public", world=WorldParams.model_validate({"size": size}))
    path = Path(data).expanduser()
    file = path / "dataset.yaml" if path.is_dir() else path
    try:
        found = yaml.safe_load(file.read_text("utf-8"))
    except FileNotFoundError as error:
        known = [f"{WORLD_PREFIX}{size}" for size in SIZES]
        near = difflib.get_close_matches(data, known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise BadConfiguration(
            f"data: {file.absolute()} does not exist; give a folder with a dataset.yaml, a yaml file, or "
            f"world:<size>.{hint}"
        ) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadConfiguration(f"data: {file} cannot be read as YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(found, dict):
        raise BadConfiguration(
            f"data: {file} should be a mapping with name: and domains:, and is {type(found).__name__}."
        )
    try:
        return Dataset.model_validate({"name": file.absolute().parent.name, **found, "root": file.absolute().parent})
    except ValidationError as error:
        raise BadConfiguration(f"data: {file}: {_first_fault(error)}") from error


def _first_fault(error: ValidationError) -> str:
    """The first fault as one sentence, with the nearest right name where a name is unknown."""
    fault = error.errors()[0]
    place = ".".join(str(part) for part in fault["loc"]) or "dataset"
    if fault["type"] != "extra_forbidden":
        return f"{place}: {fault['msg'].removeprefix('Value error, ')}, found {_brief(fault['input'])}."
    name = str(fault["loc"][-1])
    models: dict[int, type[BaseModel]] = {1: Dataset, 3: Domain}
    model = (
        WorldParams if fault["loc"][0] == "world" and len(fault["loc"]) > 1 else models.get(len(fault["loc"]), Source)
    )
    return f"{place}: there is no field {name!r}{nearest(name, [f for f in model.model_fields if f != 'root'])}."


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"


def dataset_targets(data: str) -> list[str]:
    """Names of the target domains of the dataset, in its order. Cheap: reads the yaml alone.

    Raises:
        BadConfiguration: no such dataset, or it has no target.
    """
    if data.startswith(WORLD_PREFIX):
        load_dataset(data)
        return list(TARGETS)
    targets = [name for name, roles in load_dataset(data).roles.items() if "target" in roles]
    if not targets:
        raise BadConfiguration(f"data: {data} names no domain with role: target; mark the one to recommend for.")
    return targets
