"""K1: a value of a shape that a policy cannot follow is unknown, and never absent."""

from __future__ import annotations

from dataclasses import InitVar, dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import AliasChoices, AliasPath, BaseModel, ConfigDict, Field, create_model
from pydantic.dataclasses import dataclass as validated_dataclass
from typing_extensions import TypedDict

from tests.cases.test_k1_judged_arguments import BLOCKED, call, governed, named, policy
from tests.support.kit import make_bench


@validated_dataclass
class Initial:
    amount: InitVar[float] = Field(default=0, validation_alias=AliasChoices("amount", "sum"))
    paid: float = Field(default=0, init=False)

    def __post_init__(self, amount: float) -> None:
        self.paid = amount


class Level(Enum):
    FIRST = "one"


class Deep(BaseModel):
    model_config = ConfigDict(populate_by_name=True, extra="allow")
    total: float = Field(0, validation_alias=AliasPath("pay", "total"))


class Placed(BaseModel):
    model_config = ConfigDict(populate_by_name=True, extra="allow")
    total: float = Field(0, validation_alias=AliasPath("pay", 0))


def initial(value: Initial) -> str:
    return "ran"


def by_bool(value: dict[bool, float]) -> str:
    return "ran"


def by_level(value: dict[Level, float]) -> str:
    return "ran"


def by_float(value: dict[float, float]) -> str:
    return "ran"


def deep(value: Deep) -> str:
    return "ran"


def placed(value: Placed) -> str:
    return "ran"


@pytest.mark.parametrize(
    "hidden",
    [
        (initial, "value.amount", {"sum": 5000}),
        (by_bool, "value.true", {"yes": 5000}),
        (by_bool, "value.true", {"1": 5000}),
        (by_bool, "value.false", {"off": 5000}),
        (by_level, "value.FIRST", {"one": 5000}),
        (by_float, "value.1", {"1.0": 5000}),
        (by_float, "value.1", {"1e0": 5000}),
        (deep, "value.pay.total", {"total": 5000}),
        (deep, "value.pay.total", {"total": 5000, "pay": {"total": 1}, "x": 1}),
        (placed, "value.pay", {"total": 5000}),
    ],
    ids=named,
)
def test_k1_a_value_of_another_shape_is_judged(hidden: tuple[Any, ...], tmp_path: Path) -> None:
    body, path, sent = hidden
    b = make_bench(tmp_path / "audit", policy=policy("gt", path, 100))
    assert call(governed(b, body, strict_mode=False), {"value": sent}).startswith(BLOCKED)


@pytest.mark.parametrize(
    "below",
    [
        (by_bool, "value.true", {"true": 5}),
        (by_level, "value.one", {"one": 5}),
        (deep, "value.pay.total", {"pay": {"total": 5}}),
    ],
    ids=named,
)
def test_k1_a_value_of_another_shape_below_the_limit_runs_holds(
    below: tuple[Any, ...], tmp_path: Path
) -> None:
    body, path, sent = below
    b = make_bench(tmp_path / "audit", policy=policy("gt", path, 100))
    assert call(governed(b, body, strict_mode=False), {"value": sent}) == "ran"


class Summed(TypedDict):
    amount: Annotated[float, Field(validation_alias=AliasChoices("total", "sum"))]


@dataclass
class Held:
    amount: Annotated[float, Field(validation_alias=AliasChoices("total", "sum"))]


Wide: Any = create_model("Wide", **{f"field{n}": (int | None, None) for n in range(6_000)})
"""A model whose validator has more nodes than are read to find the names of keys."""


def summed(value: Summed | None = None, wide: Wide | None = None) -> str:
    return "ran"


def held(value: Held | None = None, wide: Wide | None = None) -> str:
    return "ran"


@pytest.mark.parametrize("body", [summed, held], ids=named)
def test_k1_names_in_a_validator_too_large_to_read_are_unknown(body: Any, tmp_path: Path) -> None:
    """The names of keys that were not reached may be any, so no condition on such a value is answered."""
    b = make_bench(tmp_path / "audit", policy=policy("gt", "value.total", 100))
    assert call(governed(b, body, strict_mode=False), {"value": {"sum": 5000}}).startswith(BLOCKED)
